"""Fits a mean and a daily wave to readings: python3 fit.py TABLE OUTLIER METRICS FIGURE"""

import csv
import json
import math
import statistics
import sys

table, outlier, metrics, figure = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]
with open(table) as file:
    rows = [(int(row["minute"]), float(row["celsius"])) for row in csv.DictReader(file)]

values = [celsius for _, celsius in rows]
mean, spread = statistics.fmean(values), statistics.pstdev(values)
kept = [(minute, celsius) for minute, celsius in rows if abs(celsius - mean) <= outlier * spread]

# Over whole days sine, cosine and a constant are orthogonal: least squares is three averages.
angle = [2 * math.pi * minute / 1440 for minute, _ in kept]
level = statistics.fmean(celsius for _, celsius in kept)
sine = 2 * statistics.fmean((c - level) * math.sin(a) for a, (_, c) in zip(angle, kept))
cosine = 2 * statistics.fmean((c - level) * math.cos(a) for a, (_, c) in zip(angle, kept))
left = [c - level - sine * math.sin(a) - cosine * math.cos(a) for a, (_, c) in zip(angle, kept)]

with open(metrics, "w") as file:
    numbers = {
        "readings": len(rows),
        "dropped": len(rows) - len(kept),
        "level": round(level, 4),
        "amplitude": round(math.hypot(sine, cosine), 4),
        "residual_sd": round(statistics.pstdev(left), 4),
    }
    json.dump(numbers, file, indent=2)
    file.write("\n")

width, height = 640, 240
last = max(minute for minute, _ in kept)
low, high = min(c for _, c in kept), max(c for _, c in kept)
dots = "".join(
    f'<circle cx="{20 + 600 * minute / last:.1f}" cy="{220 - 200 * (celsius - low) / (high - low):.1f}" r="1"/>'
    for minute, celsius in kept
)
with open(figure, "w") as file:
    file.write(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" fill="#2f6f8f">'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{dots}</svg>\n'
    )
