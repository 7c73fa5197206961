# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='apache2: event MPM, 3 processes of 16 threads, compression; ab'
needs='apache2 ab curl' packages='apache2-bin apache2-utils curl' heap=small area=16 pool=256

. "$tenant_here/matrix_web.sh"
prepare() { web_files; }

work() {
	local modules=/usr/lib/apache2/modules
	port=$(free_port)
	cat >"$scratch/conf" <<CONF
ServerRoot $scratch
ServerName localhost
PidFile $scratch/pid
DefaultRuntimeDir $scratch
ErrorLog $scratch/error.log
Listen 127.0.0.1:$port
LoadModule mpm_event_module $modules/mod_mpm_event.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule mime_module $modules/mod_mime.so
LoadModule filter_module $modules/mod_filter.so
LoadModule deflate_module $modules/mod_deflate.so
Mutex file:$scratch
ServerLimit 3
StartServers 3
MinSpareThreads 16
MaxSpareThreads 48
ThreadsPerChild 16
MaxRequestWorkers 48
TypesConfig /dev/null
AddType text/plain .txt
DocumentRoot $load/files
<Directory $load/files>
	Require all granted
	AddOutputFilterByType DEFLATE text/plain
</Directory>
CONF
	serve apache2 -d "$scratch" -f "$scratch/conf" -DFOREGROUND
	await_server 30 web_answers
	web_load "$(scaled 1600)"
	stop_server TERM
}
