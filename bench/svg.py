"""Plots as SVG text, with nothing but Python's own library: some panels one above the other, over one logarithmic axis."""

import math
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP, PANEL, GAP, BOTTOM = 760, 90, 150, 46, 210, 40, 56
COLOURS = ("#1b6ca8", "#c8553d", "#3b7a57", "#7a5195")


def ticks_of(low, high, log):
    if log:
        return [10**e * m for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
                if low * 0.999 <= 10**e * m <= high * 1.001]
    step = 10 ** math.floor(math.log10(high or 1))
    step = next(s for s in (step / 5, step / 2, step, step * 2) if high / s <= 6)
    return [i * step for i in range(int(high / step) + 1)]


def plot(title, x_label, x, panels):
    """`panels`: dicts of label, log and lines {name: values}; a value of None is left out. Answers the text of the file."""
    height = TOP + len(panels) * (PANEL + GAP) - GAP + BOTTOM
    low, high = math.log10(min(x)), math.log10(max(x))

    def at_x(value):
        return LEFT + (math.log10(value) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
           'font-family="sans-serif" font-size="12">', f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
           f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>']
    for number, panel in enumerate(panels):
        top = TOP + number * (PANEL + GAP)
        values = [v for line in panel["lines"].values() for v in line if v]
        if not values:
            continue
        log = panel.get("log", False)
        least, most = (min(values) / 1.3 if log else 0), max(values) * (1.3 if log else 1.08)

        def at_y(value, top=top, least=least, most=most, log=log):
            part = (math.log(value / least) / math.log(most / least)) if log else (value - least) / (most - least)
            return top + PANEL - part * PANEL

        for tick in ticks_of(least, most, log):
            out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(tick):.1f}" y2="{at_y(tick):.1f}" stroke="#e3e3e3"/>')
            out.append(f'<text x="{LEFT - 8}" y="{at_y(tick) + 4:.1f}" text-anchor="end">{tick:,.6g}</text>')
        for tick in x:
            out.append(f'<line x1="{at_x(tick):.1f}" x2="{at_x(tick):.1f}" y1="{top}" y2="{top + PANEL}" stroke="#f1f1f1"/>')
        out.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}" fill="none" stroke="#888888"/>')
        middle = top + PANEL / 2
        out.append(f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{escape(panel["label"])}</text>')
        for colour, (name, line) in zip(COLOURS, panel["lines"].items()):
            points = [(at_x(a), at_y(b)) for a, b in zip(x, line) if b]
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        for row, (colour, name) in enumerate(zip(COLOURS, panel["lines"])):
            y = top + 14 + row * 18
            out.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{y - 9}" width="12" height="4" fill="{colour}"/>')
            out.append(f'<text x="{WIDTH - RIGHT + 30}" y="{y - 3}">{escape(name)}</text>')
    base = height - BOTTOM
    for tick in x:
        out.append(f'<text x="{at_x(tick):.1f}" y="{base + 18}" text-anchor="middle">{tick:g}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{base + 40}" text-anchor="middle">{escape(x_label)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
