"""pg8000, a client without asyncio, on blocking sockets, against a real server."""

import sys

import pg8000.dbapi

connection = pg8000.dbapi.connect(
    user="postgres", host="127.0.0.1", port=int(sys.argv[1]), password="secret", timeout=10
)
cursor = connection.cursor()
cursor.execute("create temporary table things (number int, words text)")
for number in range(100):
    cursor.execute("insert into things values (%s, %s)", (number, f"Größe {number}"))
cursor.execute("select sum(number), max(words) from things")
assert list(cursor.fetchone()) == [4950, "Größe 99"]
connection.commit()
connection.close()
print("pg8000: done")
