#!/usr/bin/env python3
"""Draws docs/performance-*.svg and prints the tables of docs/performance.md from the figures that
compare.py --save kept in the folders of results, one for each machine."""

import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
DOCS = HERE.parents[2] / "docs"
CHARTS = {
    "encoders": "MiniLM: times the rate of onnxruntime",
    "decoders": "Gemma 3 270M: times the rate of llama.cpp",
}
MACHINES = {"zen5": "Zen 5, AVX-512", "icelake": "Ice Lake, AVX-512", "zen3": "Zen 3, AVX2"}
LABELS, BARS, BAR, ROW, TOP = 250, 380, 15, 59, 70
STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2328; }
    .title { font-weight: 600; font-size: 15px; }
    .zen5 { fill: #0b4f4a; }
    .icelake { fill: #2a9d8f; }
    .zen3 { fill: #9accc5; }
    .peer { stroke: #57606a; stroke-dasharray: 4 3; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .zen5 { fill: #5eead4; }
      .icelake { fill: #1fa596; }
      .zen3 { fill: #17605a; }
      .peer { stroke: #9198a1; }
    }
"""


def main():
    for name, title in CHARTS.items():
        machines = {machine: ratios(machine, name) for machine in MACHINES}
        (DOCS / f"performance-{name}.svg").write_text(chart(title, machines))
    for name in (*CHARTS, "http"):
        print(f"{name}\n\n{table({machine: ratios(machine, name) for machine in MACHINES})}")


def ratios(machine, name):
    """What was measured there, or nothing."""
    path = HERE / "results" / machine / f"{name}.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    return [row for row in rows if "ratio" in row]


def table(machines):
    """A line for each case, and on each machine that has it our median, the peer's, and their ratio."""
    measured = {machine: rows for machine, rows in machines.items() if rows}
    lines = [
        f"| | {' | '.join(MACHINES[machine] for machine in measured)} |",
        "|---" * (1 + len(measured)) + "|",
    ]
    units = {row["case"]: row["unit"] for rows in measured.values() for row in rows}
    for case, unit in units.items():
        cells = [f"{case}, {unit}"]
        for rows in measured.values():
            row = next((row for row in rows if row["case"] == case), None)
            cells.append(cell(row) if row else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(row):
    digits = 2 if row["ours"]["median"] < 20 else 0
    ours, peer = [f"{row[side]['median']:.{digits}f}" for side in ("ours", "peer")]
    return f"{ours} : {peer} = **{row['ratio']:.2f}**"


def chart(title, machines):
    """A bar of each machine for each case that was measured on it."""
    known = {m: {row["case"]: row["ratio"] for row in rows} for m, rows in machines.items()}
    cases = list(dict.fromkeys(row["case"] for m in reversed(machines) for row in machines[m]))
    scale = BARS / max(1, *(ratio for ratios in known.values() for ratio in ratios.values()))
    height = TOP + ROW * len(cases) + 30
    one = LABELS + scale
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}" '
        f'viewBox="0 0 720 {height}" role="img" aria-label="{title}">',
        f"  <style>{STYLE}  </style>",
        f'  <text class="title" x="12" y="24">{title}</text>',
    ]
    for index, (machine, what) in enumerate(MACHINES.items()):
        x = 12 + 180 * index
        lines += [
            f'  <rect class="{machine}" x="{x}" y="38" width="14" height="14" rx="2"/>',
            f'  <text x="{x + 22}" y="50">{what}</text>',
        ]
    for index, case in enumerate(cases):
        y = TOP + ROW * index
        lines.append(f'  <text x="{LABELS - 10}" y="{y + 30}" text-anchor="end">{case}</text>')
        for machine, ratios in known.items():
            if case in ratios:
                width = ratios[case] * scale
                lines += [
                    f'  <rect class="{machine}" x="{LABELS}" y="{y + 2}" width="{width:.1f}" '
                    f'height="{BAR}" rx="2"/>',
                    f'  <text x="{LABELS + width + 8:.1f}" y="{y + 14}">{ratios[case]:.2f}</text>',
                ]
            y += BAR + 2
    bottom = TOP + ROW * len(cases)
    lines += [
        f'  <line class="peer" x1="{one:.1f}" x2="{one:.1f}" y1="{TOP - 6}" y2="{bottom}"/>',
        f'  <text x="{one:.1f}" y="{bottom + 18}" text-anchor="middle">the peer</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
