#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write the SQL that `make demo` feeds to sqlite3, to standard output.

A small shop: customers, items and a million orders. The workload loads it, indexes it, changes it and
asks questions of it, so that sqlite3's page cache, its sorters and its in-memory journal keep more than
200 MiB of heap busy, and pages come and go by system calls. Nothing depends on a clock, on randomness or
on addresses: the same arguments give the same SQL, and the same SQL the same answers.

Each statement is one line. Each phase writes its answers to OUT/NN-name.txt, so whoever runs the workload
can follow it by looking into OUT. The file OUT/99-end.txt is opened last.
"""

import argparse
import sys

MIX = 2654435761  # Knuth's multiplicative hash, modulo 2^32
WORDS = ("anchor", "bollard", "capstan", "dinghy", "ensign", "fender", "gangway", "hawser")
NOTE = (
    "berthed at noon, lines fast, crew ashore until the tide turns; cargo mixed, hatches shut,"
    " two barrels of pitch short, master complains of the quay and of the price of rope"
)


def series(table, columns, count, first=1):
    """One INSERT of `count` rows whose columns are functions of n = first..."""
    last = first + count - 1
    return (
        f"WITH RECURSIVE s(n, h) AS (SELECT {first}, ({first}*{MIX})%4294967296"
        f" UNION ALL SELECT n+1, ((n+1)*{MIX})%4294967296 FROM s WHERE n<{last})"
        f" INSERT INTO {table} SELECT {columns} FROM s;"
    )


def phases(rows, rounds):
    customers, items = max(rows // 10, 10), max(rows // 50, 10)
    word = "CASE h%8 " + " ".join(f"WHEN {i} THEN '{w}'" for i, w in enumerate(WORDS)) + " END"

    yield "load", [
        "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT, city INT, balance INT);",
        "CREATE TABLE items(id INTEGER PRIMARY KEY, sku TEXT UNIQUE, price INT, stock INT);",
        "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INT, item INT, qty INT, day INT, note TEXT);",
        "BEGIN;",
        series("customers", f"n, {word}||'-'||(h%9973), (h/7)%500, h%100000", customers),
        series("items", "n, printf('%s-%06d', char(65+h%26), n), 100+h%9900, 1000", items),
        series(
            "orders",
            f"n, 1+(h/3)%{customers}, 1+(h/11)%{items}, 1+h%9, (h/5)%730,"
            f" {word}||' '||h||' '||substr('{NOTE}', 1+h%20, 20+h%50)",
            rows,
        ),
        "COMMIT;",
        "SELECT count(*), sum(qty), sum(length(note)) FROM orders;",
        "SELECT count(*), sum(balance) FROM customers;",
    ]
    yield "index", [
        "CREATE INDEX orders_customer ON orders(customer, day);",
        "CREATE INDEX orders_item ON orders(item);",
        "CREATE INDEX customers_city ON customers(city);",
        "ANALYZE;",
        "SELECT day/30, count(*), sum(qty), min(note), max(note) FROM orders GROUP BY 1 ORDER BY 1;",
    ]
    for r in range(rounds):
        n = r + 1
        fresh = rows // 20
        yield f"join-{n}", [
            "SELECT c.city, count(*), sum(o.qty*i.price) AS turnover FROM customers c"
            " JOIN orders o ON o.customer=c.id JOIN items i ON i.id=o.item"
            f" WHERE c.city%5={r%5} GROUP BY c.city ORDER BY turnover DESC, c.city LIMIT 40;",
        ]
        yield f"update-{n}", [
            "BEGIN;",
            f"UPDATE orders SET qty=1+(qty*7+id)%9, day=(day+{17+r})%730 WHERE id%6={r%6};",
            f"UPDATE items SET stock=stock+(id*{MIX})%13-6 WHERE id%3={r%3};",
            "UPDATE customers SET balance=balance-(SELECT ifnull(sum(o.qty),0) FROM orders o"
            f" WHERE o.customer=customers.id AND o.day<365) WHERE id%4={r%4};",
            "COMMIT;",
            "SELECT sum(qty*(day+1)), sum(day*day) FROM orders;",
        ]
        yield f"delete-{n}", [
            "BEGIN;",
            f"DELETE FROM orders WHERE (id*{MIX})%4294967296%20={r*3%20};",
            f"DELETE FROM orders WHERE customer IN (SELECT id FROM customers WHERE city={r*37%500});",
            "COMMIT;",
            "SELECT count(*), min(id), max(id), sum(id) FROM orders;",
        ]
        yield f"sort-{n}", [
            "CREATE TEMP TABLE ranked AS SELECT id, item, note, rank() OVER"
            f" (PARTITION BY item ORDER BY qty DESC, id) AS place FROM orders WHERE id%4={r%4};",
            "CREATE INDEX temp.ranked_note ON ranked(note);",
            "SELECT place, count(*), min(note), max(note) FROM ranked WHERE place<6 GROUP BY place ORDER BY place;",
            "SELECT count(DISTINCT note) FROM ranked;",
            "DROP TABLE ranked;",
        ]
        yield f"insert-{n}", [
            "BEGIN;",
            series(
                "orders",
                f"n, 1+(h/13)%{customers}, 1+(h/17)%{items}, 1+h%7, (h/19)%730, {word}||' again '||h",
                fresh,
                first=rows + 1 + r * fresh,
            ),
            "INSERT INTO items(id, sku, price, stock) SELECT item, 'x', 0, sum(qty) FROM orders"
            f" WHERE id%10={r%10} GROUP BY item ON CONFLICT(id) DO UPDATE SET stock=stock-excluded.stock;",
            "COMMIT;",
            "SELECT sum(stock), min(stock), max(stock) FROM items;",
        ]
    yield "check", ["PRAGMA integrity_check;"]
    yield "sum", [
        "SELECT count(*), sum(id), sum(customer), sum(item), sum(qty), sum(day), sum(length(note)) FROM orders;",
        "SELECT count(*), sum(balance), group_concat(DISTINCT city%7) FROM customers;",
        ".sha3sum",
    ]


def main():
    arg = argparse.ArgumentParser(description="Write the SQL workload of `make demo` to standard output.")
    arg.add_argument("--rows", type=int, default=1000000, help="orders to load (default 1000000)")
    arg.add_argument("--rounds", type=int, default=2, help="rounds of join, update, delete, sort, insert")
    arg.add_argument("--cache-mib", type=int, default=112, help="sqlite3's page cache")
    arg.add_argument("--out", default="out", help="directory for the answers, relative to sqlite3's own")
    opt = arg.parse_args()
    if min(opt.rows, opt.cache_mib) < 1 or opt.rounds < 0:
        arg.error("rows and cache must be positive")

    lines = [
        ".bail on",
        "PRAGMA page_size=4096;",
        f"PRAGMA cache_size=-{opt.cache_mib * 1024};",
        "PRAGMA temp_store=MEMORY;",
        f".output {opt.out}/00-start.txt",
        "PRAGMA journal_mode=MEMORY;",
        "PRAGMA synchronous=OFF;",
    ]
    for number, (name, statements) in enumerate(phases(opt.rows, opt.rounds), 1):
        lines.append(f".output {opt.out}/{number:02d}-{name}.txt")
        lines += statements
    lines.append(f".output {opt.out}/99-end.txt")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
