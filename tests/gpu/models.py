# SPDX-License-Identifier: Apache-2.0
"""Small models that do what large ones may: rows of the bundled classifier with each way of
having its weights, and of models that write, that take memory, and that take too much."""
import json
import pathlib
import urllib.error
import urllib.request

import bigmodel
import served

DIGITS = pathlib.Path(__file__).resolve().parents[2] / "examples" / "digits"
ROWS = 60
SOON_S = 120  # each of them is small
NEAR = 1e-3  # what two devices' sums may differ by
PLACES = {"cpu": ("cpu", "memory"), "memory": ("cuda:0", "memory"), "off": ("cuda:0", "off")}


def section(name, path, shape_in, shape_out, **keys):
    lines = {"engine": "torch", "path": path, "input": f"{keys.pop('input', 'x')} FP32 {shape_in}",
             "output": f"y FP32 {shape_out}", "device": "cuda:0", "max_batch": 1,
             "retry_delay": "200ms", "watch_window": "0s", **keys}
    return f"[model {name}]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items())


class Models(served.Moult):
    def __init__(self, place, home, sections):
        self.sections = sections
        super().__init__(place, home, None)

    def configure(self, strategy):
        for name, text in self.sections.items():
            self.write(self.home / "models.d" / f"{name}.conf", text)

    def of(self, name):
        return self.ctl("status", name)[-1]["models"][0]

    def ready(self, name):
        """True, or why it does not serve."""
        def told():
            status = self.of(name)
            return status["state"] == "ready" or status["last_error"]
        return self.wait(f"end of {name}'s load", told, SOON_S)

    def ask(self, name, rows, tensor="x"):
        body = json.dumps({"inputs": [{
            "name": tensor, "datatype": "FP32", "shape": [len(rows), len(rows[0])],
            "data": rows}]}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v2/models/{name}/infer",
                                         body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return answer.status, json.load(answer)["outputs"][0]["data"]
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def write(home):
    paths = {name: home / f"{name}.pt" for name in ("buffer", "writer", "square")}
    weight = [2.0] * 4
    bigmodel.write_small(paths["buffer"], {"w": weight}, {"n": [0.0]}, [
        "_0 = torch.add_(self.n, 1)",
        "return torch.add(torch.mul(x, self.w), torch.mul(_0, 100))"])
    bigmodel.write_small(paths["writer"], {"w": weight}, {}, [
        "_0 = torch.add_(self.w, 1)", "return torch.mul(x, _0)"])
    bigmodel.write_small(paths["square"], {"w": weight}, {}, [
        "_0 = torch.mul(torch.unsqueeze(x, 2), torch.unsqueeze(x, 1))",
        "return torch.add(torch.sum(_0, [2]), torch.sum(self.w))"])
    return paths


def make(home):
    paths = write(home)
    digits = DIGITS / "digits.pt"
    sections = {}
    for name, (device, share) in PLACES.items():
        sections[f"digits-{name}"] = section(f"digits-{name}", digits, "[-1,64]", "[-1,10]",
                                             input="image", device=device, share=share)
    for name in ("buffer", "writer"):
        sections[name] = section(name, paths[name], "[-1,4]", "[-1,4]", warmup_runs=1)
    sections["square"] = section("square", paths["square"], "[-1,-1]", "[-1,-1]",
                                 working_memory="64M")
    return sections


def digits(place, table, moult):
    """The first is what the others are held against."""
    expected = json.loads((DIGITS / "expected.json").read_text())["predictions"][:ROWS]
    lines = (DIGITS / "heldout.jsonl").read_text().splitlines()[:ROWS]
    rows = [json.loads(line)["inputs"][0]["data"] for line in lines]
    host = None
    for name, (device, share) in PLACES.items():
        what = f"bundled model, {device}, share = {share}"
        said = moult.ready(f"digits-{name}")
        if said is not True:
            table.miss(what, said, is_error=not (place.is_fake and "CUDA devices" in said))
            continue
        scores = []
        for row in rows:
            status, data = moult.ask(f"digits-{name}", [row], "image")
            if status != 200:
                raise served.Failed(f"{what}: {status} {data}")
            scores.append(data)
        host = host or scores
        right = sum(row.index(max(row)) == n for row, n in zip(scores, expected))
        far = max(abs(a - b) for ours, theirs in zip(scores, host)
                  for a, b in zip(ours, theirs))
        table.add(what, f"{right} of {ROWS} classes as expected, scores within {far:.1e} of "
                  "those of cpu", right == ROWS and far < NEAR)


def buffer(place, table, moult):
    """What forward counts in a buffer is each loader's own, beside shared weights."""
    if moult.ready("buffer") is not True:
        raise served.Failed(moult.ready("buffer"))
    answers = [moult.ask("buffer", [[1, 1, 1, 1]])[1][0] for _ in range(3)]
    why = moult.of("buffer")["weights"]["why_private"]
    steps = {b - a for a, b in zip(answers, answers[1:])}
    table.add("model that writes to a buffer", f"answers {answers}; "
              f"{f'private: {why}' if why else 'weights shared'}", steps == {100} and not why)


def writer(place, table, moult):
    """Found in the warm-up, and given weights of its own."""
    moult.wait("writer", lambda: moult.of("writer")["state"] == "ready", SOON_S)
    answers = [moult.ask("writer", [[1, 1, 1, 1]])[1][0] for _ in range(3)]
    why = moult.of("writer")["weights"]["why_private"] or ""
    steps = {b - a for a, b in zip(answers, answers[1:])}
    table.add("model that writes to its weights", f"answers {answers}; private: {why}",
              steps == {1} and "nobody may write to" in why)


def working_memory(place, table, moult):
    if moult.ready("square") is not True:
        raise served.Failed(moult.ready("square"))
    small, large = ([[1.0] * n] for n in (100, 6000))
    codes = [moult.ask("square", rows)[0] for rows in (small, large, small)]
    table.add("requests within and beyond working_memory", f"{codes}", codes == [200, 413, 200])


def warm_up(place, table, moult):
    """Too little memory there is no sign of a model that writes."""
    name = "digits-memory"
    before, text = moult.of(name), moult.sections[name]
    moult.sections[name] = text.replace("max_batch = 1\n", "max_batch = 20000\n"
                                        "working_memory = 1M\n").replace("200ms", "0")
    moult.configure("auto")
    said = moult.wait("the refusal", lambda: moult.of(name)["last_error"], SOON_S)
    after = moult.of(name)
    moult.sections[name] = text
    moult.configure("auto")
    table.add("warm-up without memory", f"{said}; private: {after['weights']['why_private']}",
              "working_memory" in said and after["generation"] == before["generation"] and
              after["weights"]["why_private"] is None)


def rows(place, table, home):
    if not (place.build / "moult-engine-torch.so").exists():
        table.miss("everything with models", "the torch engine is not built: which libtorch?")
        return
    folder = pathlib.Path(home) / "models"
    folder.mkdir()
    moult = Models(place, folder, make(folder))
    try:
        for row in (digits, buffer, writer, working_memory, warm_up):
            try:
                row(place, table, moult)
            except (served.Failed, KeyError, TypeError, OSError) as error:
                table.miss(row.__name__, f"{type(error).__name__}: {error}", is_error=True)
    finally:
        moult.stop()
