"""The page that steps, in a headless Chromium: its numbers against JAX's, its keys, its accessibility tree, its looks."""

import json

import chromium
import numpy as np
import pytest

from experiments.config.worked import Worked
from experiments.worked import net, page, passes, text


# texts that touch each other in the drawing, and what is wider than the window
OVERLAPS = """(() => {
  const shown = [...document.querySelectorAll("#drawing text")].filter((t) => getComputedStyle(t).visibility === "visible");
  const boxes = shown.map((t) => [t.textContent, t.getBoundingClientRect()]);
  const touch = (p, q) => Math.min(p.right, q.right) - Math.max(p.left, q.left) > 0.5
    && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 4;  // lines of text share their leading
  const found = [];
  boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => touch(p, q) && found.push([a, b])));
  if (document.scrollingElement.scrollWidth > innerWidth) found.push(["the page", "its window"]);
  return found;
})()"""

# the least contrast of any visible text with what lies below it
CONTRAST = """(() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = channels(getComputedStyle(node).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const ratios = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const style = getComputedStyle(node);
    const seen = style.visibility === "visible" && node.getClientRects().length && !/^(TITLE|OPTION)$/i.test(node.tagName);
    if (!own || !seen) continue;
    const [a, b] = [light(channels(node.namespaceURI.endsWith("svg") ? style.fill : style.color)), light(ground(node))].sort();
    ratios.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.slice(0, 40)]);
  }
  return ratios.sort((p, q) => p[0] - q[0])[0];
})()"""


# what the step computes lies inside the drawing's box, which may be narrower than the drawing
INSIDE = """(() => {
  const box = document.querySelector("#drawing").getBoundingClientRect();
  const node = document.querySelector(`#drawing [data-unit="${steps[state.index].units[0]}"]`)?.getBoundingClientRect();
  return !node || (node.left >= box.left - 1 && node.right <= box.right + 1);
})()"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    program = chromium.find()
    if program is None:
        pytest.skip("needs Chromium: none of chromium, google-chrome is on the PATH; CHROMIUM may name its program")
    with chromium.browser(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def mazur(tmp_path_factory):
    return written(tmp_path_factory.mktemp("mazur") / "page.html", Worked())


@pytest.fixture
def opened(tab, mazur):
    tab.media(prefers_color_scheme="light")
    tab.size(1280, 900)
    tab.open(mazur)
    yield tab
    assert tab.errors == []


def written(path, options):
    worked = net.net_of(options)
    path.write_text(page.page(worked, passes.values_of(worked)), encoding="utf-8")
    return path


def step(tab):
    return tab.js("state.index")


KINDS = [
    {"net": "3-2-2-3", "loss": "softmax", "activation": "tanh"},
    {"net": "2-3-2", "loss": "cross-entropy", "activation": "relu", "seed": 2, "inputs": (3.0, -9.0)},
    {"net": "2-2-1", "output": "identity", "inputs": (0.3, -40.0)},
]


@pytest.mark.parametrize("options", KINDS, ids=["softmax", "cross-entropy", "quadratic"])
def test_the_page_computes_what_jax_computes(opened, options):
    worked = net.net_of(Worked(**options))
    data = page.data_of(worked, passes.values_of(worked))
    count, apart = opened.js(f"compared(compute({json.dumps(data['net'])}), {page._json(data['jax'])})")
    assert count == sum(np.size(x) for part in data["jax"].values() for x in (part if isinstance(part, list) else [part]) if x)
    assert apart < 1e-12
    wrong = data["jax"] | {"cost": data["jax"]["cost"] * (1 + 2e-6) + 2e-6}
    assert opened.js(f"compared(compute({json.dumps(data['net'])}), {page._json(wrong)})")[1] > 1e-6


def test_changed_numbers_follow_jax(opened):
    """Sliders moved by the keyboard; the values then shown are JAX's of the same numbers."""
    for selector, count in (("#chosen-value", 3), ("#input-0", 5), ("#target-1", -4)):
        opened.js(f"document.querySelector('{selector}').focus()")
        opened.press(*["ArrowRight" if count > 0 else "ArrowLeft"] * abs(count))
    assert step(opened) == 0  # arrows in a slider do not step
    worked = net.net_of(Worked(inputs=(0.1, 0.1), targets=(0.01, 0.95)))
    worked.weights[1][0, 0] = 0.43
    theirs = page.data_of(worked, passes.values_of(worked))["jax"]
    _, apart = opened.js(f"compared(values, {json.dumps(theirs)})")
    assert apart < 1e-12
    opened.js("go(steps.length - 1)")
    rows = "[...document.querySelectorAll('#units tbody tr')].map((row) => [row.cells[0].textContent, row.cells[5].textContent])"
    shown = dict(opened.js(rows))
    assert shown["h₁"] == text.full(theirs["delta"][0][0]).replace("-", "−")
    assert "You have changed" in opened.js("document.querySelector('#check').textContent")
    opened.js("document.querySelector('#put-back').click()")
    assert "All 35 numbers were recomputed" in opened.js("document.querySelector('#check').textContent")


def test_updates_are_those_of_gradient_descent(opened):
    click = "document.querySelector('#update').click()"
    opened.js(click)
    assert abs(opened.js("values.cost") - 0.29102777369359933) < 1e-15
    opened.js("document.querySelector('#put-back').click(); document.querySelector('#biases-too').click();" + click)
    assert abs(opened.js("values.cost") - 0.28047144679143016) < 1e-15
    assert opened.js("document.querySelector('#cost-told').textContent") == "Cost 0.280471447 after 1 update"


def test_keys_step_and_play(opened):
    last = opened.js("steps.length") - 1
    assert last == 13
    opened.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert step(opened) == 1
    assert opened.js("document.querySelector('#step-title').textContent") == "Forward: h₁"
    lines = "[...document.querySelectorAll('#step-lines dd')].map((d) => d.textContent)"
    assert "= 0.15 · 0.05 + 0.2 · 0.1 + 0.35" in opened.js(lines)
    opened.js("document.querySelector('#play').focus()")
    opened.press(" ")
    assert opened.js("document.querySelector('#play').textContent") == "Pause"
    opened.press(" ")
    assert opened.js("state.timer") is None
    opened.js("document.querySelector('#place').focus()")
    opened.press("End")
    assert step(opened) == last
    opened.press("Home")
    assert step(opened) == 0
    opened.js("document.activeElement.blur(); document.querySelector('[data-phase=\"One weight\"]').click()")
    assert "= 0.74136507 · 0.186815602 · 0.593269992" in opened.js(lines)
    assert "= 0.082167041" in opened.js(lines)


def test_play_runs_to_the_end_and_stops(opened):
    opened.js("go(steps.length - 3)")
    opened.js("{ const tick = []; window.setInterval = (act) => tick.push(act); play(); tick[0](); tick[0](); }")
    assert step(opened) == 13
    assert opened.js("document.querySelector('#play').textContent") == "Play"


def test_a_hidden_weight_is_followed_over_all_its_paths(opened):
    opened.js("document.querySelector('[data-edge=\"2,0,0\"]').focus()")
    opened.press("ArrowDown", "ArrowUp", "ArrowUp")  # within the drawing, up and down choose
    assert opened.js("state.chosen") == [1, 2, 2]
    assert opened.js("document.activeElement.dataset.edge") == "1,1,1"
    opened.js("choose('1,1,1')")
    cells = "[...document.querySelectorAll('#paths tbody tr')].map((row) => [row.cells[0].textContent, row.cells[2].textContent])"
    rows = opened.js(cells)
    assert [row[0] for row in rows] == ["C ← o₁ ← h₁", "C ← o₂ ← h₁"]
    assert abs(sum(float(row[1].replace("−", "-")) for row in rows) - 0.000438568) < 2e-9
    assert opened.js("document.querySelector('#why-title').textContent") == "Why ∂C/∂w¹₁₁ is 0.000438568"


def test_every_control_is_named_and_within_reach_of_the_keyboard(opened):
    tree = opened.accessible()
    controls = [(role, name) for role, name, properties in tree if properties.get("focusable") and role != "RootWebArea"]
    assert [control for control in controls if not control[1].strip()] == []
    named = set(controls)
    assert {("button", name) for name in ("◀ Back", "Next ▶", "Play", "Start over", "Update all weights")} <= named
    assert {("button", name) for name in ("Start", "Forward", "Cost", "Backward", "Gradient", "One weight", "Update")} <= named
    assert {("slider", "Step"), ("slider", "Its value"), ("slider", "input x₁"), ("slider", "target of o₂")} <= named
    assert {("combobox", "Weight or bias to follow"), ("checkbox", "biases too"), ("spinbutton", "learning rate η")} <= named
    weights = [name for role, name, _ in tree if role == "radio"]
    assert len(weights) == 8
    assert "w²₁₁ (Mazur’s w5), h₁ → o₁, 0.4" in weights
    chosen = [name for role, name, properties in tree if role == "radio" and properties.get("checked") == "true"]
    assert chosen == ["w²₁₁ (Mazur’s w5), h₁ → o₁, 0.4"]
    assert ("region", "This step") in [(role, name) for role, name, _ in tree]

    place = "[...document.querySelectorAll('*')].indexOf"
    every = "[...document.querySelectorAll('button, input, select, [role=radio][tabindex=\"0\"]')]"
    controls, reached = opened.js(f"{every}.map((node) => {place}(node))"), set()
    opened.js("document.activeElement.blur()")
    for _ in range(len(controls) + 12):  # and the boxes that scroll
        opened.press("Tab")
        reached.add(opened.js(f"{place}(document.activeElement)"))
    assert len(controls) == 28
    assert set(controls) <= reached


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_every_step_is_readable(tab, mazur, width, scheme):
    tab.media(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    tab.size(width, 900)
    tab.open(mazur)
    assert tab.js("[...document.querySelectorAll('.wire')].map((w) => getComputedStyle(w).animationName)[0]") == "none"
    for index in range(14):
        tab.js(f"go({index})")
        assert tab.js(OVERLAPS) == [], index
        contrast, what = tab.js(CONTRAST)
        assert contrast >= 4.5, (index, what)
        assert tab.js(INSIDE), index


def test_the_looks_can_be_found_wanting(opened):
    opened.js("document.querySelector('h1').style.color = '#8a8a8a'")
    contrast, what = opened.js(CONTRAST)
    assert contrast < 4.5
    assert what.startswith("Backpropagation")
    opened.js("go(13); document.querySelector('[data-unit=\"1,0\"] .v-a').setAttribute('transform', 'translate(0 -12)')")
    assert ["0.3775", "0.5933"] in opened.js(OVERLAPS)


def test_motion_only_where_it_is_wanted_and_no_controls_on_paper(opened):
    opened.media(prefers_reduced_motion="no-preference")
    opened.js("go(2)")
    moving = "getComputedStyle(document.querySelector('.now.forward .wire')).animationName"
    assert opened.js(moving) == "flow"
    opened.media(prefers_reduced_motion="reduce")
    assert opened.js(moving) == "none"
    opened.media(print_=True)
    assert opened.js("[...document.querySelectorAll('button, input, select')].every((n) => n.getClientRects().length === 0)")
    assert opened.js("document.querySelector('#drawing svg').getBoundingClientRect().width") > 300


def test_a_large_net_is_readable(tab, tmp_path):
    tab.media(prefers_reduced_motion="reduce")
    tab.size(1280, 900)
    tab.open(written(tmp_path / "page.html", Worked(net="3-4-4-3", loss="softmax", activation="tanh", weight="1,2,3")))
    count = tab.js("steps.length")
    for index in (0, 12, 20, count - 2):
        tab.js(f"go({index})")
        assert tab.js(OVERLAPS) == [], index
    tab.js(
        "document.querySelector('#target-1').value = 0.5; document.querySelector('#target-1').dispatchEvent(new Event('input'))"
    )
    assert abs(tab.js("sum(state.net.targets)") - 1) < 1e-12  # the others give way
    tab.js("controls.at(-1).field.value = 2; controls.at(-1).field.dispatchEvent(new Event('input'))")
    assert tab.js("state.net.targets.every((y) => y >= 0 && y <= 1)")  # no such target
    assert tab.errors == []


def test_numbers_are_written_alike_in_python_and_on_the_page(opened):
    draw = np.random.default_rng(0)
    numbers = [*(draw.normal(size=40) * 10.0 ** draw.integers(-9, 8, 40)), 0.0, 1.0, -0.5, 1e6, 99999.99]
    given = json.dumps(numbers)
    for name in ("full", "short"):
        theirs = [getattr(text, name)(x).replace("-", "−") for x in numbers]
        assert [x.replace("-", "−") for x in opened.js(f"{given}.map({name})")] == theirs
