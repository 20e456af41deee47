#!/usr/bin/env python3
"""Draws docs/performance-*.svg and prints the tables of docs/performance.md from the figures that
compare.py --save kept in the folder results."""

import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
DOCS = HERE.parents[2] / "docs"
CHARTS = {
    "encoders": "MiniLM: times the rate of onnxruntime",
    "decoders": "Gemma 3 270M: times the rate of llama.cpp",
}
LABELS, BARS, ROW, TOP = 250, 380, 30, 46
STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2328; }
    .title { font-weight: 600; font-size: 15px; }
    .bar { fill: #0f766e; }
    .peer { stroke: #57606a; stroke-dasharray: 4 3; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .bar { fill: #2dd4bf; }
      .peer { stroke: #9198a1; }
    }
"""


def main():
    for name, title in CHARTS.items():
        (DOCS / f"performance-{name}.svg").write_text(chart(title, ratios(name)))
    for name in (*CHARTS, "http"):
        print(table(ratios(name)))


def ratios(name):
    rows = json.loads((HERE / "results" / f"{name}.json").read_text())
    return [row for row in rows if "ratio" in row]


def table(rows):
    lines = ["| | ours | peer | ratio |", "|---|---|---|---|"]
    for row in rows:
        digits = 2 if row["ours"]["median"] < 20 else 0
        cells = [
            f"{side['median']:.{digits}f} ({side['least']:.{digits}f} to {side['most']:.{digits}f})"
            for side in (row["ours"], row["peer"])
        ]
        cells = [f"{row['case']}, {row['unit']}", *cells, f"{row['ratio']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def chart(title, rows):
    most = max(row["ratio"] for row in rows)
    scale = BARS / max(most, 1)
    height = TOP + ROW * len(rows) + 30
    one = LABELS + scale
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}" '
        f'viewBox="0 0 720 {height}" role="img" aria-label="{title}">',
        f"  <style>{STYLE}  </style>",
        f'  <text class="title" x="12" y="24">{title}</text>',
    ]
    for index, row in enumerate(rows):
        y = TOP + ROW * index
        width = row["ratio"] * scale
        lines += [
            f'  <text x="{LABELS - 10}" y="{y + 15}" text-anchor="end">{row["case"]}</text>',
            f'  <rect class="bar" x="{LABELS}" y="{y + 2}" width="{width:.1f}" height="18" rx="2"/>',
            f'  <text x="{LABELS + width + 8:.1f}" y="{y + 15}">{row["ratio"]:.2f}</text>',
        ]
    bottom = TOP + ROW * len(rows)
    lines += [
        f'  <line class="peer" x1="{one:.1f}" x2="{one:.1f}" y1="{TOP - 6}" y2="{bottom}"/>',
        f'  <text x="{one:.1f}" y="{bottom + 18}" text-anchor="middle">the peer</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
