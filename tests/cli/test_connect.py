"""`sae-circuits connect`, beside what Python gives."""

from __future__ import annotations

import pandas
import pytest

import sae_circuits as sc
from command_line import call, done, refused

SAES = ("--sae-id", "mlp_out.0", "--sae-id", "resid_post.1")


def test_it_lists_what_python_finds(tmp_path):
    out = tmp_path / "found.csv"
    said = done(
        "connect", "--feature", "post1.f5", *SAES, "--n", 4, "--method", "total", "--method",
        "direct", "--top", 3, "--out", out, "--page", tmp_path / "page.html",
    )  # fmt: skip
    model = sc.load_model("demo")
    saes, task = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"]), sc.tasks.ioi(model, 4, 0)
    table = pandas.read_csv(out)
    for method in ("total", "direct"):
        found = sc.connections(model, "post1.f5", saes, task, method=method)
        own = table[table["method"] == method]
        assert list(own["source"])[:5] == [name for name, _ in found.top(5)]
        assert list(own["value"])[:5] == pytest.approx([x for _, x in found.top(5)], rel=1e-4)
        assert all(name in said for name, _ in found.top(3))
    both = [sc.connections(model, "post1.f5", saes, task, method=m) for m in ("total", "direct")]
    again = sc.ConnectomeView.build(both).render(tmp_path / "again.html")
    assert (tmp_path / "page.html").read_bytes() == again.read_bytes()


def test_texts_come_from_a_file(tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("When Mary and John went to the park, Mary gave a pen to\n\n")
    said = done(
        "connect", "--feature", "post1.f5", *SAES, "--prompts", prompts, "--reference", "mean"
    )
    assert "Connections(total" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "exact"], "exact"),
        (["--reference", "median"], "give zero, mean, corrupt or a number"),
        (["--out", "found.txt"], "end the name in '.csv'"),
        (["--page", "found.txt"], "end the name in '.html'"),
        (["--prompts", "nowhere.txt"], "cannot read 'nowhere.txt'"),
        (["--task", "ioy"], "ioy"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(options, message):
    refused(call("connect", "--feature", "post1.f5", *SAES, *options), message)


def test_a_feature_that_is_not_there_is_said():
    refused(call("connect", "--feature", "post1.f999", *SAES), "post1.f999")
