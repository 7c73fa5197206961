# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='lighttpd: compression; ab'
needs='lighttpd ab curl' packages='lighttpd lighttpd-mod-deflate apache2-utils curl' heap=small area=16 pool=256

. "$tenant_here/matrix_web.sh"
prepare() { web_files; }

work() {
	port=$(free_port)
	cat >"$scratch/conf" <<CONF
server.modules = ( "mod_deflate" )
server.document-root = "$load/files"
server.bind = "127.0.0.1"
server.port = $port
server.errorlog = "$scratch/error.log"
deflate.mimetypes = ( "text/" )
deflate.allowed-encodings = ( "gzip" )
mimetype.assign = ( ".txt" => "text/plain" )
CONF
	serve lighttpd -D -f "$scratch/conf"
	await_server 30 web_answers
	web_load "$(scaled 1600)"
	stop_server INT
}
