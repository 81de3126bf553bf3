# SPDX-License-Identifier: Apache-2.0
"""What an engine takes by itself counts from the first load on, beside the model file."""
from harness import echo_section, wait_for

MIB = 1 << 20
MODELS = 20


def refused(moult, names):
    """The reason of each that was refused at its start."""
    last = {r["model"]: r for r in wait_for(
        "receipts", lambda: {r["model"] for r in moult.receipts()} >= set(names)
        and moult.receipts())}
    assert all(last[name]["strategy"] == "refused" for name in names), last
    return [last[name]["reason"] for name in names]


def test_no_loader_of_torch_starts_where_none_has_room(start, tmp_path):
    (tmp_path / "small.pt").write_bytes(b"x" * 1024)
    names = [f"model{i}" for i in range(MODELS)]
    moult = start(*(echo_section(name, engine="torch", path=tmp_path / "small.pt")
                    for name in names),
                  supervisor="[device host]\nbudget = 20M\nreserve = 0\n", ready=False)
    for reason in refused(moult, names):
        assert "not enough memory: 64.0 MiB are needed, 64.0 MiB of them for the engine " \
            "itself, 20.0 MiB are free" in reason, reason
    assert all(moult.status(name)["pid"] == 0 for name in names)


def test_the_first_loader_says_what_its_engine_takes(start):
    """The next model of that engine is reckoned with what was measured, not with a figure."""
    moult = start(echo_section())
    decision = moult.explain("echo")
    budget = decision["used_bytes"] + 4096
    moult.config.write_text(moult.head +
                            f"[device host]\nbudget = {budget}\nreserve = 0\n" +
                            echo_section("other"))
    [reason] = refused(moult, ["other"])
    [receipt] = moult.receipts("other")[-1:]
    base = receipt["decision"]["engine_bytes"]
    assert 0 < base <= receipt["decision"]["need_bytes"] and base != MIB, receipt
    assert f"{base / MIB:.1f} MiB of them for the engine itself, " in reason, reason
    moult.config.write_text(moult.head + echo_section("other"))
    wait_for("the other", lambda: moult.status("other")["state"] == "ready")
    assert moult.explain("other")["engine_bytes"] == 0


def test_a_spare_is_reckoned_with_it(start):
    """The first spare of an engine, too: none has been measured yet. Here a figure that is made
    for libtorch would find no room for it, ever."""
    moult = start(echo_section(spare="yes"),
                  supervisor="[device host]\nbudget = 24M\nreserve = 0\n")
    wait_for("a spare loader", lambda: [s for s in moult.status()["supervisor"]["spares"]
                                        if s["engine"] == "identity" and s["state"] == "ready"])
