"""How the page looks: on screens light and dark, on paper black on white."""

import base64
import hashlib

CSS = """
:root { color-scheme: light dark; --ink: #1c2024; --faint: #5d6670; --paper: #ffffff; --soft: #f3f5f7; --rule: #d5dae0;
  --allowed: #2f7d5b; --denied: #c4553b; --good: #1f6b4a; --bad: #a8321d; --added: #e4f4ea; --removed: #fbe8e4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --faint: #9aa4ae; --paper: #15181b; --soft: #1f2429;
  --rule: #353c44; --allowed: #58b48a; --denied: #e07f66; --good: #6cc79d; --bad: #f09a84; --added: #17352a;
  --removed: #40231d; } }
* { box-sizing: border-box; }
html { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--paper); }
body { max-width: 74rem; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 2px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p { margin: .4rem 0; max-width: 50rem; }
.faint, caption, .note { color: var(--faint); }
nav ol { columns: 3 14rem; padding-left: 1.3rem; margin: 1rem 0; }
a { color: inherit; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.2rem, 1fr)); gap: .7rem; margin: 1.2rem 0;
  padding: 0; list-style: none; }
.figures li { background: var(--soft); border-radius: .4rem; padding: .6rem .8rem; }
.figures b { display: block; font-size: 1.45rem; font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .bad { color: var(--bad); }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 1.2rem; font-size: .86rem; table-layout: fixed; }
caption { text-align: left; padding: .2rem 0; }
th, td { text-align: left; vertical-align: top; padding: .28rem .5rem .28rem 0; border-bottom: 1px solid var(--rule);
  overflow-wrap: anywhere; white-space: pre-wrap; unicode-bidi: isolate; mso-number-format: "\\@"; }
th { font-weight: 600; }
thead { display: table-header-group; }
td.number, th.number { text-align: right; padding-right: 1.2rem; white-space: normal;
  font-variant-numeric: tabular-nums; }
time { white-space: nowrap; } tbody th { font-weight: 500; }
th.slim { width: 6.6rem; } th.name { width: 7.5rem; } th.when { width: 10.4rem; } th.short { width: 10rem; }
code, pre { font: .84rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .6rem .8rem; border-radius: .3rem; white-space: pre-wrap;
  margin: .3rem 0 1rem; }
pre .added { background: var(--added); display: block; } pre .removed { background: var(--removed); display: block; }
pre .line { display: block; }
svg { width: 100%; height: auto; display: block; margin: .4rem 0 .8rem; font-size: 12px; }
svg text { fill: var(--ink); } svg text.faint { fill: var(--faint); }
svg .rule { stroke: var(--rule); } svg .allowed { fill: var(--allowed); } svg .denied { fill: var(--denied); }
.shade0 { fill: var(--soft); } .shade1 { fill: var(--allowed); fill-opacity: .22; }
.shade2 { fill: var(--allowed); fill-opacity: .42; } .shade3 { fill: var(--allowed); fill-opacity: .62; }
.shade4 { fill: var(--allowed); fill-opacity: .82; } .shade5 { fill: var(--allowed); }
.key span { display: inline-block; width: .8em; height: .8em; border-radius: .15em; margin: 0 .3em 0 1em; }
.key .allowed { background: var(--allowed); } .key .denied { background: var(--denied); }
@media print { :root { --ink: #000; --faint: #444; --paper: #fff; --soft: #f2f2f2; --rule: #bbb; --allowed: #2f7d5b;
    --denied: #c4553b; --good: #1f6b4a; --bad: #a8321d; --added: #e4f4ea; --removed: #fbe8e4; }
  @page { size: A4; margin: 16mm 14mm; }
  html { font-size: 10.5px; } body { padding: 0; max-width: none; } nav { display: none; }
  h2, h3, caption { break-after: avoid; } svg, .figures, tr { break-inside: avoid; } pre { break-inside: auto; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
_DIGEST = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
# SECURITY: nothing runs and nothing is fetched, whatever a record should smuggle into the page.
POLICY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"
