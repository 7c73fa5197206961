# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='nginx: 2 workers, compression; ab'
needs='nginx ab curl' packages='nginx-light apache2-utils curl' heap=small area=16 pool=256

. "$tenant_here/matrix_web.sh"
prepare() { web_files; }

work() {
	local where
	where=$(mktemp -d)
	port=$(free_port)
	cat >"$where/conf" <<CONF
daemon off; user root; worker_processes 2; pid $where/pid; error_log $where/error.log;
events { worker_connections 200; }
http {
	access_log off; client_body_temp_path $where/1; proxy_temp_path $where/2; fastcgi_temp_path $where/3;
	uwsgi_temp_path $where/4; scgi_temp_path $where/5;
	gzip on; gzip_comp_level 5; gzip_types text/plain; gzip_min_length 1;
	server { listen 127.0.0.1:$port; root $load/files; }
}
CONF
	[ "$(id -u)" = 0 ] || sed -i 's/user root;//' "$where/conf"
	serve nginx -p "$where" -c "$where/conf" -e "$where/error.log"
	await_server 30 web_answers
	web_load "$(scaled 1600)"
	kill -HUP "$(cat "$where/pid")" # new workers, the old ones go
	web_load "$(scaled 800)"
	kill -QUIT "$(cat "$where/pid")"
	stop_server
	rm -rf "$where"
}
