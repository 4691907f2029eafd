"""The style sheet: one column of sections on a quiet ground, the colours of `colors` as variables."""

from __future__ import annotations

from jaxbp.page.colors import DARK, LIGHT, with_heat


def _variables(palette: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in with_heat(palette).items())


_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;color-scheme:light dark}
body{margin:0;background:var(--surface);color:var(--ink);font:16px/1.55 var(--sans)}
main{max-width:1064px;margin:0 auto;padding:44px 28px 64px}
h1{font-size:1.9rem;line-height:1.2;font-weight:650;letter-spacing:-.015em;margin:0 0 .4em}
h2{font-size:1.25rem;line-height:1.3;font-weight:650;letter-spacing:-.008em;margin:0 0 .5em;scroll-margin-top:1em}
h3{font-size:.95rem;line-height:1.35;font-weight:600;margin:0 0 .6em}
p{margin:0 0 1em;max-width:70ch}
.lead{font-size:1.06rem;color:var(--muted)}
a{color:var(--link);text-underline-offset:.18em;text-decoration-thickness:1px}
nav ul{display:flex;flex-wrap:wrap;gap:.3em 1.3em;margin:1.2em 0 0;padding:0;list-style:none;font-size:.9rem}
section{margin-top:2.2rem;padding-top:1.8rem;border-top:1px solid var(--rule)}
figure{margin:0 0 1.6rem}
figcaption{margin-top:.6em;font-size:.84rem;line-height:1.5;color:var(--muted);max-width:76ch}
.scroll{overflow-x:auto;max-width:100%;scrollbar-width:thin}
.scroll:focus-visible,a:focus-visible{outline:2px solid var(--link);outline-offset:3px}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:1.2rem 3rem;align-items:start}
.grid>div{min-width:0}
dl{margin:0 0 1.4rem}
dd{margin:0}
.key{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:1.3rem 1.6rem}
.key>div{border-left:2px solid var(--series-1);padding-left:.85rem}
.key dt{font-size:.84rem;color:var(--muted)}
.key dd{font-size:1.55rem;line-height:1.3;font-weight:600;letter-spacing:-.01em;overflow-wrap:anywhere}
dd,table,svg{font-variant-numeric:tabular-nums}
.key .note{font-size:.84rem;line-height:1.45;font-weight:400;letter-spacing:0;color:var(--muted)}
.facts{columns:2 400px;column-gap:3rem;font-size:.88rem}
.facts>div{display:flex;gap:1rem;justify-content:space-between;padding:.28em 0;border-bottom:1px solid var(--grid)}
.facts>div{break-inside:avoid}
.facts dt{color:var(--muted);flex:none;max-width:55%;overflow-wrap:anywhere}
.facts dd{text-align:right;overflow-wrap:anywhere}
table{border-collapse:collapse;font-size:.88rem;line-height:1.4}
caption{text-align:left;font-size:.95rem;font-weight:600;padding-bottom:.6em}
th,td{text-align:left;padding:.36em 1.4em .36em 0;white-space:nowrap;vertical-align:baseline;font-weight:400}
th:last-child,td:last-child{padding-right:.2em}
thead th{color:var(--muted);font-size:.82rem;white-space:normal;vertical-align:bottom;max-width:9.5em}
thead th{border-bottom:1px solid var(--rule)}
tbody tr+tr>*{border-top:1px solid var(--grid)}
tfoot tr:first-child>*{border-top:1px solid var(--rule)}
tfoot th,tfoot td{font-weight:600}
.n{text-align:right}
pre{margin:0 0 1.2rem;padding:.8em 1em;background:var(--raised);border-radius:4px;font:.84rem/1.55 var(--mono);}
pre{white-space:pre-wrap;overflow-wrap:anywhere}
footer{margin-top:2.6rem;padding-top:1rem;border-top:1px solid var(--rule);font-size:.84rem;color:var(--muted)}
.scroll>svg{display:block;height:auto;font-family:var(--sans)}
.grid .scroll>svg{max-width:100%}
svg .ink{fill:var(--ink)}
svg .muted{fill:var(--muted)}
svg .halo{paint-order:stroke;stroke:var(--surface);stroke-width:4px;stroke-linejoin:round}
svg .grid{stroke:var(--grid);stroke-width:1}
svg .axis{stroke:var(--rule);stroke-width:1}
svg .bold{stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
svg .faint{stroke-width:1;stroke-opacity:.3;stroke-linejoin:round;stroke-linecap:round}
svg .mark{stroke:var(--muted);stroke-width:1;stroke-dasharray:3 3}
svg .ring{fill:none;stroke:var(--ink);stroke-width:1.6}
svg .dot{stroke:var(--surface);stroke-width:1}
svg .band{fill:var(--muted);fill-opacity:.1}
svg .cell{stroke:var(--surface);stroke-width:1.5}
svg .unit{fill:var(--surface);stroke:var(--series-1);stroke-width:1.6}
svg .more{fill:var(--muted)}
svg .link{stroke:var(--muted);stroke-opacity:.28;stroke-width:.8}
svg .arrow{fill:none;stroke:var(--muted);stroke-width:1.4;stroke-linejoin:round;stroke-linecap:round}
svg .through{pointer-events:none}
@media (max-width:560px){main{padding:26px 16px 40px}h1{font-size:1.55rem}.key{grid-template-columns:1fr 1fr;gap:1rem}
.key dd{font-size:1.25rem}}
@media print{
@page{margin:16mm}
html{font-size:12px}
body{font-size:1rem}
main{max-width:none;padding:0}
nav{display:none}
section{margin-top:1.2rem;padding-top:1.2rem}
th,td{padding:.3em .9em .3em 0}
.facts{columns:2 200px}
.key{grid-template-columns:repeat(4,1fr)}
section{break-inside:auto}
figure,.key,h2,h3,tr{break-inside:avoid}
h2,h3,h2+p{break-after:avoid}
.scroll{overflow:visible}
.scroll>svg{max-width:100%}
.grid{grid-template-columns:1fr 1fr;gap:1rem 1.6rem}
svg,.key>div{-webkit-print-color-adjust:exact;print-color-adjust:exact}
a{color:inherit;text-decoration:none}
}
"""

_FONTS = (
    "--mono:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "--sans:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','Noto Sans','Liberation Sans',Arial,sans-serif;"
)

STYLE = (
    f":root{{{_FONTS}{_variables(LIGHT)}}}@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}{_RULES}"
)
