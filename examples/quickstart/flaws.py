#!/usr/bin/env python3
"""Names the flaws of service-names-port-numbers.csv; shares nothing with Hapax."""
import csv
import datetime
from pathlib import Path

path = Path(__file__).with_name("service-names-port-numbers.csv")
with open(path, newline="", encoding="utf-8") as file:
    rows, first_line, claimed, moved = csv.reader(file), 1, {}, 0
    for number, row in enumerate(rows):
        line, first_line = first_line, rows.line_num + 1
        if number == 0:
            width = len(row)
            continue
        if len(row) != width:
            print(f"line {line}, record {number}: {len(row)} fields instead of {width}")
            continue
        try:
            datetime.date.fromisoformat(row[7] or "2000-01-01")
        except ValueError:
            print(f"line {line}, record {number}: modification date {row[7]!r}")
            continue
        key = tuple(row[:3])
        if key in claimed:
            print(f"line {line}, record {number}: {key} was claimed on line {claimed[key]}")
            continue
        claimed[key] = line
        moved += 1
print(f"{number} records, {moved} without a flaw")
