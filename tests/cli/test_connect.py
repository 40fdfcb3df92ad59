"""`sae-circuits connect`, beside what Python gives."""

from __future__ import annotations

import pandas
import pytest

import sae_circuits as sc
from command_line import call, done, refused
from small_saes import random_sae

SAES = ("--sae-id", "mlp_out.0", "--sae-id", "resid_post.1")
TWO = ("--sae", "mlp_out.0", "--sae", "resid_post.1")


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
        (["--reference", "median"], "give zero, mean, corrupt, a number, or a multiple as 2x"),
        (["--reference", "sixx"], "give zero, mean, corrupt, a number, or a multiple as 2x"),
        (
            ["--sae", "demo", "--sae", "demo", "--sae", "demo"],
            "--sae is given 3 times and --sae-id 2",
        ),
        (["--out", "found.txt"], "end the name in '.csv'"),
        (["--page", "found.txt"], "end the name in '.html'"),
        (["--prompts", "nowhere.txt"], "cannot read 'nowhere.txt'"),
        (["--task", "ioy"], "ioy"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(options, message):
    refused(call("connect", "--feature", "post1.f5", *SAES, *options), message)


def test_a_number_is_a_feature_of_the_dictionary_that_is_named_last(tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("When Mary and John went to the park, Mary gave a pen to\n")
    options = ["--method", "direct", "--prompts", prompts]
    by_name = done("connect", "--feature", "post1.f5", *SAES, *options)
    assert done("connect", *TWO, "--feature", "5", *options) == by_name
    paired = ("--sae", "demo", "--sae-id", "mlp_out.0", "--sae", "demo", "--sae-id", "resid_post.1")
    assert done("connect", *paired, "--feature", "05", *options) == by_name
    assert done("connect", *SAES, "--feature", "5", *options) == by_name


def test_components_multiples_and_one_layer_are_those_of_python(tmp_path):
    said = done(
        "connect", *TWO, "--feature", "5", "--n", 4,
        "--component", "a0.h3", "--component", "m1", "--reference", "2x", "--out",
        tmp_path / "found.csv",
    )  # fmt: skip
    model = sc.load_model("demo")
    saes, task = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"]), sc.tasks.ioi(model, 4, 0)
    found = sc.connections(
        model, "post1.f5", saes, task, reference=("scale", 2.0), components=["a0.h3", "m1"]
    )
    table = pandas.read_csv(tmp_path / "found.csv").set_index("source")["value"]
    assert table["a0.h3"] == pytest.approx(found["a0.h3"], rel=1e-4)
    assert table["m1"] == pytest.approx(found["m1"], rel=1e-4)
    assert "2 components" in said
    one = done(
        "connect", *TWO, "--feature", "5", "--n", 4,
        "--method", "direct", "--through", "a1", "--top", 1,
    )  # fmt: skip
    found = sc.connections(model, "post1.f5", saes, task, method="direct", through="a1")
    assert found.top(1)[0][0] in one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([*TWO, "--feature", "999"], "'post1.f999'"),
        ([*TWO, "--feature", "999"], "has features 0 to 255"),
        (["--sae", "resid_post.1", "--sae", "mlp_out.0", "--feature", "5"], "and post1 does not"),
        (["--feature", "5"], "is of one dictionary, and --sae demo has 12"),
        ([*TWO, "--feature", "m3.f5"], "is no feature of the dictionaries given (m0, post1)"),
        ([*TWO, "--feature", "5", "--through", "a7"], "through='a7'"),
        ([*TWO, "--feature", "5", "--component", "a7.h0"], "is no head or MLP"),
    ],
)
def test_what_does_not_fit_is_said(options, message):
    refused(call("connect", *options, "--n", 2), message)


def test_a_target_that_is_silent_is_said(tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Mary\n")
    model = sc.load_model("demo")
    saes = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"])
    active = sc.pair_connections(model, "post1", saes, "Mary").active
    silent = int((active == 0).nonzero()[0, 0])
    options = ("--feature", silent, "--prompts", prompts)
    refused(call("connect", *TWO, *options), "is active on none of the 1 prompts")


def test_dictionaries_of_another_model_are_refused(tmp_path):
    sae = random_sae("standard", "blocks.1.hook_resid_post", 32, 16)
    sae.cfg.metadata.model_name = "gpt2"
    sae.save_model(str(tmp_path / "other"))
    given = ("--sae", "mlp_out.0", "--sae", tmp_path / "other")
    refused(call("connect", *given, "--feature", "5", "--n", 2), "was trained on 'gpt2'")


def test_a_feature_that_is_not_there_is_said():
    refused(call("connect", "--feature", "post1.f999", *SAES), "post1.f999")
