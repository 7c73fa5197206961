# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='mariadb: 4 sessions; InnoDB without direct I/O'
needs='mariadbd mariadb mariadb-install-db' packages='mariadb-server-core mariadb-client-core' area=64

mariadb_options=(--no-defaults --innodb-use-native-aio=0 --innodb-flush-method=fsync --innodb-log-file-buffering=1 --skip-networking
	--innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-flush-log-at-trx-commit=0
	--performance-schema=off --open-files-limit=1000 --max-connections=20 --table-open-cache=100 --lc-messages-dir=/usr/share/mysql)

prepare() {
	mariadb-install-db --no-defaults --datadir="$load/data" --user="$(id -un)" --auth-root-authentication-method=normal \
		--skip-test-db --innodb-log-file-size=16M
	"$PYTHON" - "$(scaled 24000)" <<'PY'
import sys
rows = int(sys.argv[1])
for session in range(1, 5):
    with open(f"session.{session}.sql", "w") as file:
        file.write(f"create table shop.t{session}(id int primary key, k int, v varchar(200), key(k, v)) engine=innodb;\n")
        file.write(f"insert into shop.t{session} select seq, (seq*2654435761+{session})%5003, concat(md5(seq+{session}), repeat('x', seq%90)) from seq_1_to_{rows};\n")
        file.write(f"update shop.t{session} set v=concat(v, '+', id%97), k=(k*31+id)%5003 where id%3=1;\n")
        file.write(f"delete from shop.t{session} where id%7=2;\n")
        file.write(f"select count(*), sum(k), sum(length(v)), min(v), max(v) from shop.t{session};\n")
        file.write("set group_concat_max_len=100000000; set sort_buffer_size=33554432; set tmp_table_size=67108864; set max_heap_table_size=67108864;\n")
        file.write(f"select k%10, count(*), count(distinct v), md5(group_concat(v order by v, id)) from shop.t{session} group by 1 order by 1;\n")
        file.write(f"select a.k, count(*), max(b.v) from shop.t{session} a join shop.t{session} b on a.k=b.k group by a.k order by 2 desc, 1 limit 20;\n")
        file.write(f"select md5(json_arrayagg(v order by id)) from shop.t{session};\n")
PY
}

sql() { mariadb --no-defaults -u root -S "$scratch/s" -N "$@"; }

work() {
	local session
	cp -r "$load/data" "$scratch/data"
	serve mariadbd "${mariadb_options[@]}" --datadir="$scratch/data" --socket="$scratch/s" --pid-file="$scratch/pid" \
		--user="$(id -un)" --log-error="$scratch/log"
	await_server 60 sql -e 'select 1'
	sql -e 'create database shop'
	for session in 1 2 3 4; do
		background session "$session"
	done
	all_done
	sql -e 'check table shop.t1, shop.t2, shop.t3, shop.t4'
	sql -e 'shutdown'
	stop_server
}
session() { sql shop <"$load/session.$1.sql" >"answers.$1"; }
