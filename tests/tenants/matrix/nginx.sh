# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='nginx: 2 workers, compression; ab'
needs='nginx ab curl' packages='nginx-light apache2-utils curl' heap=small area=16 pool=256

. "$tenant_here/matrix_web.sh"
prepare() { web_files; }

work() {
	port=$(free_port)
	cat >"$scratch/conf" <<CONF
daemon off; user root; worker_processes 2; pid $scratch/pid; error_log $scratch/error.log;
events { worker_connections 200; }
http {
	access_log off; client_body_temp_path $scratch/1; proxy_temp_path $scratch/2; fastcgi_temp_path $scratch/3;
	uwsgi_temp_path $scratch/4; scgi_temp_path $scratch/5;
	gzip on; gzip_comp_level 5; gzip_types text/plain; gzip_min_length 1;
	server { listen 127.0.0.1:$port; root $load/files; }
}
CONF
	[ "$(id -u)" = 0 ] || sed -i 's/user root;//' "$scratch/conf"
	serve nginx -p "$scratch" -c "$scratch/conf" -e "$scratch/error.log"
	await_server 30 web_answers
	web_load "$(scaled 1600)"
	kill -HUP "$(cat "$scratch/pid")" # new workers, the old ones go
	web_load "$(scaled 800)"
	kill -QUIT "$(cat "$scratch/pid")"
	stop_server
}
