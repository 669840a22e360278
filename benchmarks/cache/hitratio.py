"""Hit ratios beside LRU on generated traces, the mean of five seeds, as JSON and a plot: `make hitratio`.

At 1 % and 10 % of all keys (or, with sizes, of all bytes). A run takes a minute; the plot has the share of misses
that our order of eviction saves, so that bars to the right are better.
"""

from __future__ import annotations

import json
import platform
import random
import time
from pathlib import Path

from benchmarks.cache.traces import TRACES, Lru, Ours, Ratio, replay, sizes_for

KEYS = 4000
LENGTH = 60_000
SEEDS = 5
SHARES = (0.01, 0.1)
RESULTS = Path(__file__).resolve().parents[1] / "results"


def compare(name: str, share: float, *, equal: bool, seeds: int = SEEDS) -> tuple[Ratio, Ratio]:
    """Mean hit ratios of LRU and of ours."""
    sums = [[0.0, 0.0], [0.0, 0.0]]
    for seed in range(seeds):
        trace = TRACES[name](random.Random(seed), KEYS, LENGTH)
        sizes = sizes_for(trace, equal=equal, seed=seed)
        limit = int(share * sum(sizes[:KEYS]))
        for total, cache in zip(sums, (Lru(limit), Ours(limit)), strict=True):
            found = replay(cache, trace, sizes)
            total[0] += found.requests / seeds
            total[1] += found.bytes / seeds
    return Ratio(*sums[0]), Ratio(*sums[1])


def run() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for equal in (True, False):
        for share in SHARES:
            for name in TRACES:
                lru, ours = compare(name, share, equal=equal)
                saved = 1 - (1 - ours.requests) / (1 - lru.requests)
                rows.append(
                    {
                        "trace": name,
                        "share": share,
                        "sizes": "equal" if equal else "log-normal",
                        "lru": round(lru.requests, 4),
                        "ours": round(ours.requests, 4),
                        "misses saved": round(saved, 4),
                        "lru, bytes": round(lru.bytes, 4),
                        "ours, bytes": round(ours.bytes, 4),
                    }
                )
                print(
                    f"{rows[-1]['sizes']:10} {share:5.0%} {name:16} {lru.requests:.4f} {ours.requests:.4f} {saved:+.1%}"
                )
    return rows


def plot(rows: list[dict[str, object]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    names = list(TRACES)[::-1]
    for axis, sizes in zip(axes, ("equal", "log-normal"), strict=True):
        for offset, share in ((0.2, 0.01), (-0.2, 0.1)):
            found = {
                r["trace"]: float(str(r["misses saved"])) * 100
                for r in rows
                if (r["sizes"], r["share"]) == (sizes, share)
            }
            bars = axis.barh(
                [at + offset for at in range(len(names))],
                [found[n] for n in names],
                0.38,
                label=f"cache of {share:.0%}",
            )
            axis.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        axis.set_yticks(range(len(names)), names)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.margins(x=0.12)
        axis.set_title(f"sizes: {sizes}")
        axis.set_xlabel("misses saved against LRU, %")
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    figure.savefig(path, dpi=110)


def main() -> None:
    rows = run()
    stem = RESULTS / f"hitratio-{time.strftime('%Y%m%d-%H%M%S')}"
    facts = {"keys": KEYS, "requests": LENGTH, "seeds": SEEDS, "python": platform.python_version()}
    stem.with_suffix(".json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")
    plot(rows, stem.with_suffix(".png"))
    print(stem.with_suffix(".png"))


if __name__ == "__main__":
    main()
