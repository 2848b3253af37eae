"""Makes up the readings of a thermometer: python3 measure.py DAYS SEED"""

import math
import random
import sys

days, seed = int(sys.argv[1]), int(sys.argv[2])
draw = random.Random(seed)
minutes = list(range(0, days * 24 * 60, 10))
# As a logger writes them whose batches arrive late.
draw.shuffle(minutes)
print("minute,celsius")
for minute in minutes:
    celsius = 12 + 5 * math.sin(2 * math.pi * (minute / 1440 - 0.375)) + draw.gauss(0, 0.8)
    chance = draw.random()
    if chance < 0.01:
        print(f"{minute},")
    else:
        print(f"{minute},{85.0 if chance < 0.015 else celsius:.2f}")
