"""Medians of both brokers and their ratio, from measurements as lines of JSON on standard input."""

import json
import statistics
import sys

# Which metric, its name in the table, how many digits, and what ratio Conveyor aims at.
METRICS = {
    ("start", "seconds"): ("start to first produce, s", 2, "at most 0.05"),
    ("produce", "records_per_second"): ("produce, records/s", 0, "at least 1.5"),
    ("consume", "records_per_second"): ("consume, records/s", 0, "at least 1.5"),
    ("produce", "cpu_seconds_per_gb"): ("produce, broker CPU s/GB", 2, "at most 0.5"),
    ("consume", "cpu_seconds_per_gb"): ("consume, broker CPU s/GB", 2, "at most 0.5"),
    ("latency", "p99_ms"): ("p99 at 10,000 records/s, ms", 1, "at most 0.33"),
    ("memory", "rss_mb"): ("RSS at the end, MB", 0, "at most 0.1"),
    ("memory", "peak_mb"): ("peak RSS, MB", 0, ""),
}


def main():
    found = {}
    for line in sys.stdin:
        one = json.loads(line)
        for (part, metric), _ in METRICS.items():
            if one["part"] == part and one.get(metric) is not None:
                shape = (part, metric, one["client"], one["size"], one["codec"], one["sync"])
                found.setdefault(shape, {}).setdefault(one["broker"], []).append(one[metric])
    print("| what | client | bytes | codec | sync | Kafka | Conveyor | ratio (min-max) | goal |")
    print("|---|---|---|---|---|---|---|---|---|")
    for part, metric in METRICS:
        name, digits, goal = METRICS[part, metric]
        for shape in (s for s in found if s[:2] == (part, metric)):
            kafka, conveyor = found[shape].get("kafka", []), found[shape].get("conveyor", [])
            if not kafka or not conveyor:
                continue
            ratios = [b / a for a, b in zip(kafka, conveyor) if a]
            middle = statistics.median
            ratio = f"{middle(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else "-"
            cells = [name, *shape[2:], f"{middle(kafka):,.{digits}f}", f"{middle(conveyor):,.{digits}f}", ratio, goal]
            print("| " + " | ".join(str(cell) for cell in cells) + " |")


main()
