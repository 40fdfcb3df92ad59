"""Data sets in the layouts of other projects: read, written, read again, and refused."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

import small_tokenizers
from sae_circuits import tasks
from sae_circuits.errors import (
    AlignmentError,
    FileFormatError,
    OutputError,
    PairsLeftOut,
    TaskError,
    UnknownName,
)
from sae_circuits.tasks import Task, layouts

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Tom gave a drink to"


@pytest.fixture(scope="module")
def plain():
    return small_tokenizers.word_level()


@pytest.fixture(scope="module")
def bytes_():
    return small_tokenizers.byte_level()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` keeps of what it reads goes where the test's files are."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def token(tokenizer: Any, word: str) -> int:
    (found,) = tokenizer.encode(word, add_special_tokens=False)
    return found


def table(path: Path, *rows: Mapping[str, Any]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def lines(path: Path, *rows: Mapping[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def words(tokenizer: Any, ids: Any) -> list[list[str]]:
    return [[tokenizer.decode([i]).strip() for i in row if i >= 0] for row in ids.tolist()]


# -- EAP-IG ----------------------------------------------------------------------------------------


def test_eap_ig_ioi(plain, tmp_path):
    """The columns of ioi_llama.csv in github.com/hannamw/EAP-IG, its index without a name too."""
    row = {
        "": 470, "clean": CLEAN, "corrupted": CORRUPT, "corrupted_hard": CLEAN,
        "correct_idx": token(plain, "Mary"), "incorrect_idx": token(plain, "John"),
    }  # fmt: skip
    task = Task.from_file(plain, table(tmp_path / "ioi.csv", row))
    assert (task.clean_text, task.corrupt_text) == ((CLEAN,), (CORRUPT,))
    assert words(plain, task.answer) == [["Mary"]]
    assert words(plain, task.wrong) == [["John"]]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("country_idx", "corrupted_country_idx"), ("clean_answer_idx", "corrupted_answer_idx")],
)
def test_eap_ig_facts_and_gender(right, wrong, plain, tmp_path):
    row = {
        "clean": "The capital of France is", "corrupted": "The capital of Italy is", "label": 0,
        right: token(plain, "Paris"), wrong: f"{token(plain, 'Rome')}.0",  # as pandas may write it
    }  # fmt: skip
    task = Task.from_file(plain, table(tmp_path / "facts.csv", row))
    assert words(plain, task.answer) == [["Paris"]]
    assert words(plain, task.wrong) == [["Rome"]]


def test_eap_ig_hypernymy_has_lists_of_ids(plain, tmp_path):
    ids = {word: token(plain, word) for word in ("cat", "cats", "dogs")}
    row = {
        "clean": "The keys near the cat", "corrupted": "The keys near the dog",
        "answers": "['cat', 'cats']", "answers_idx": f"[{ids['cat']}, {ids['cats']}]",
        "corrupted_answers_idx": f"[{ids['dogs']}]",
    }  # fmt: skip
    task = Task.from_file(plain, table(tmp_path / "hypernymy.csv", row))
    assert words(plain, task.answer) == [["cat", "cats"]]
    assert words(plain, task.wrong) == [["dogs"]]


@pytest.mark.parametrize("column", [{"correct_idx": 6}, {"label": 6}, {"year": "1706"}])
def test_eap_ig_greater_than_divides_at_the_year(column, bytes_, tmp_path):
    row = {"clean": "lasted from 1706 to 17", "corrupted": "lasted from 1701 to 17", **column}
    task = Task.from_file(bytes_, table(tmp_path / "greater.csv", row))
    assert words(bytes_, task.answer) == [[f"{i:02}" for i in range(7, 100)]]
    assert words(bytes_, task.wrong) == [[f"{i:02}" for i in range(7)]]


def test_eap_ig_agreement_takes_the_verbs_that_lie_beside(plain, tmp_path):
    rows = [
        {"clean": "The keys", "corrupted": "The key", "group": "a", "plural": 1},
        {"clean": "The dog", "corrupted": "The dogs", "group": "a", "plural": 0},
    ]
    path = table(tmp_path / "sva.csv", *rows)
    with pytest.raises(FileFormatError, match=r"put combined_verb_list.csv, .* beside the file"):
        Task.from_file(plain, path)
    verbs = [("is", "are"), ("sings", "sing"), ("has", "have")]  # the second is not known
    table(tmp_path / "combined_verb_list.csv", *({"sing": s, "plur": p} for s, p in verbs))
    task = Task.from_file(plain, path)
    assert words(plain, task.answer) == [["are", "have"], ["is", "has"]]
    assert words(plain, task.wrong) == [["is", "has"], ["are", "have"]]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"correct_idx": "Mary", "incorrect_idx": 3}, "has 'Mary' as 'correct_idx': it needs"),
        ({"correct_idx": 2.5, "incorrect_idx": 3}, "has '2.5' as 'correct_idx'"),
        ({"answers_idx": "[]", "corrupted_answers_idx": "[3]"}, r"has '\[\]' as 'answers_idx'"),
        ({"answers_idx": "[3", "corrupted_answers_idx": "[3]"}, r"has '\[3' as 'answers_idx'"),
        ({"plural": 2}, "has 2 as 'plural': it needs 0 or 1"),
        ({"group": "x"}, "has no answers: EAP-IG's tables have them in correct_idx"),
    ],
)  # fmt: skip
def test_eap_ig_rows_without_answers_are_refused(cells, message, plain, tmp_path):
    path = table(tmp_path / "mine.csv", {"clean": CLEAN, "corrupted": CORRUPT, **cells})
    with pytest.raises(FileFormatError, match=rf"line 2 of .*mine.csv {message}"):
        Task.from_file(plain, path)


def test_ids_of_another_tokenizer_are_refused(plain, tmp_path):
    row = {"clean": CLEAN, "corrupted": CORRUPT, "correct_idx": 47764, "incorrect_idx": 2}
    with pytest.raises(TaskError, match=r"line 2: the answer 47764 is no token id: this tokenizer"):
        Task.from_file(plain, table(tmp_path / "llama.csv", row))


# -- MIB -------------------------------------------------------------------------------------------


def mib_ioi() -> dict[str, Any]:
    """A row of mib-bench/ioi: two of its eight counterfactuals."""

    def side(prompt: str, first: str, second: str) -> dict[str, Any]:
        roles = {"indirect_object": first, "subject": second, "random_c": "Tom"}
        return {"prompt": prompt, "choices": [first, second], "answerKey": 0, "metadata": roles}

    flipped = "When Mary and John went to the store, Mary gave a drink to"
    others = "When Anna and Tom went to the store, James gave a drink to"
    return {
        **side(CLEAN, "Mary", "John"),
        "template": "When {} and {}",
        "abc_counterfactual": side(others, "Anna", "Tom"),
        "s2_io_flip_counterfactual": side(flipped, "John", "Mary"),
    }


def mib_letters() -> dict[str, Any]:
    """A row of mib-bench/copycolors_mcqa."""

    def side(first: str, second: str) -> dict[str, Any]:
        question = "Question: The cup is red. What color is the cup?"
        text = f"{question}\n{first}. blue\n{second}. red\nAnswer:"
        labels = {"label": [first, second], "text": ["blue", "red"]}
        return {"prompt": text, "choices": labels, "answerKey": 1}

    return {**side("A", "B"), "dataset": "copycolors_mcqa", "symbol_counterfactual": side("C", "D")}


def mib_sum() -> dict[str, Any]:
    """A row of mib-bench/arithmetic_addition, whose prompts end in a space."""
    return {
        "prompt": "The sum of 13 and 25 is ", "label": 38, "operator": "+",
        "operand1": 13, "operand2": 25,
        "random_counterfactual": {"prompt": "The sum of 41 and 12 is ", "label": "53"},
    }  # fmt: skip


def test_mib_ioi_takes_the_flip_and_the_names_of_the_clean_prompt(plain, tmp_path):
    path = lines(tmp_path / "ioi.jsonl", mib_ioi())
    task = Task.from_file(plain, path)
    assert task.corrupt_text == (mib_ioi()["s2_io_flip_counterfactual"]["prompt"],)
    assert words(plain, task.answer) == [["Mary"]]
    assert words(plain, task.wrong) == [["John"]]
    for asked in ("abc", "abc_counterfactual"):
        other = Task.from_file(plain, path, counterfactual=asked)
        assert other.corrupt_text == (mib_ioi()["abc_counterfactual"]["prompt"],)
        assert words(plain, other.wrong) == [["John"]]
    with pytest.raises(UnknownName, match=r"unknown counterfactual 'abd': did you mean 'abc'"):
        Task.from_file(plain, path, counterfactual="abd")


def test_mib_multiple_choice_takes_the_letters(plain, bytes_, tmp_path):
    path = lines(tmp_path / "mcqa.jsonl", mib_letters())
    for tokenizer in (plain, bytes_):
        task = Task.from_file(tokenizer, path)
        assert words(tokenizer, task.answer) == [["B"]]
        assert words(tokenizer, task.wrong) == [["D"]]
    # As the benchmark does: the letter as it stands, without a space before it.
    assert task.answer[0, 0] == token(bytes_, "B")


def test_mib_arithmetic_takes_the_labels(bytes_, tmp_path):
    task = Task.from_file(bytes_, lines(tmp_path / "sums.jsonl", mib_sum()))
    assert (task.answer.tolist(), task.wrong.tolist()) == (
        [[token(bytes_, "38")]],
        [[token(bytes_, "53")]],
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"random_counterfactual": None},
            "has None as 'random_counterfactual': it needs an object",
        ),
        ({"label": None}, "has None as 'choices' and None as 'answerKey'"),
        ({"prompt": ""}, "has '' as 'prompt'"),
    ],
)
def test_mib_rows_that_lack_something_are_refused_or_left_out(change, message, bytes_, tmp_path):
    path = lines(tmp_path / "sums.jsonl", mib_sum(), {**mib_sum(), **change})
    with pytest.raises(FileFormatError, match=rf"line 2 of .*sums.jsonl {message}"):
        Task.from_file(bytes_, path)
    with pytest.warns(PairsLeftOut, match=rf"left out 1 of 2 pairs: line 2: {message}"):
        assert len(Task.from_file(bytes_, path, skip=True)) == 1


def test_an_answer_key_beyond_the_choices_is_refused(plain, tmp_path):
    with pytest.raises(FileFormatError, match="and 7 as 'answerKey'"):
        Task.from_file(plain, lines(tmp_path / "x.jsonl", {**mib_letters(), "answerKey": 7}))


# -- feature-circuits ------------------------------------------------------------------------------


def test_feature_circuits_lines(plain, bytes_, tmp_path):
    """As in data/nounpp_test.json, and with the spaces that its loader asks for."""
    rows = [
        {"clean_prefix": "The keys near the cat", "patch_prefix": "The key near the cat",
         "clean_answer": f"{space}are", "patch_answer": f"{space}is", "case": "plural_singular"}
        for space in ("", " ")
    ]  # fmt: skip
    path = lines(tmp_path / "nounpp.json", *rows)
    for tokenizer in (plain, bytes_):
        task = Task.from_file(tokenizer, path)
        assert task.clean_text == ("The keys near the cat",) * 2
        assert words(tokenizer, task.answer) == [["are"]] * 2
        assert words(tokenizer, task.wrong) == [["is"]] * 2
        assert task.answer[0] == task.answer[1]


# -- which layout it is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (["clean", "corrupt", "answer", "wrong"], "plain"),
        (["", "clean", "corrupted", "correct_idx"], "eap-ig"),
        (list(mib_ioi()), "mib"),
        (
            ["clean_prefix", "patch_prefix", "clean_answer", "patch_answer", "case"],
            "feature-circuits",
        ),
    ],
)
def test_the_columns_tell_the_layout(columns, name):
    assert layouts.find(columns, "it").name == name
    fitting = [layout.name for layout in layouts.LAYOUTS.values() if layout.fits(columns)]
    assert fitting == [name]


def test_columns_may_be_renamed_and_a_layout_named(plain, tmp_path):
    rows = {"good": "The keys", "bad": "The key", "clean": "x", "says": " are|have"}
    path = table(tmp_path / "mine.csv", rows)
    columns = {"clean": "good", "corrupt": "bad", "answer": "says"}
    task = Task.from_file(plain, path, columns=columns)
    assert words(plain, task.answer) == [["are", "have"]]
    assert (
        Task.from_file(plain, path, columns=columns, layout="plain").fingerprint == task.fingerprint
    )
    with pytest.raises(FileFormatError, match=r"line 2 of .* has None as 'clean_prefix'"):
        Task.from_file(plain, path, layout="feature-circuits")
    with pytest.raises(UnknownName, match=r"unknown layout 'mibb': did you mean 'mib'"):
        Task.from_file(plain, path, layout="mibb")
    with pytest.raises(
        FileFormatError, match=r"has no column 'nice': it has good, bad, clean, says"
    ):
        Task.from_file(plain, path, columns={"clean": "nice"})


def test_unknown_columns_are_refused_with_those_of_every_layout(plain, tmp_path):
    path = table(tmp_path / "mine.csv", {"sentence": "a", "label": 1})
    with pytest.raises(FileFormatError) as caught:
        Task.from_file(plain, path)
    for said in (
        "mine.csv has the columns sentence, label",
        "correct_idx",
        "clean_prefix",
        "columns=",
    ):
        assert said in str(caught.value)


# -- written and read again ------------------------------------------------------------------------

FILES = [
    ("facts.csv", "plain"), ("facts.json", "plain"), ("facts.jsonl", "plain"),
    ("facts.csv", "eap-ig"), ("facts.json", "mib"), ("facts.jsonl", "mib"),
    ("facts.json", "feature-circuits"), ("facts.jsonl", "feature-circuits"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["word_level", "byte_level", "sentence_piece"])
@pytest.mark.parametrize(("name", "layout"), FILES)
def test_what_is_written_is_read_again(name, layout, kind, tmp_path):
    tokenizer = getattr(small_tokenizers, kind)()
    task = tasks.facts(tokenizer, n=12, seed=2)
    path = task.save(tmp_path / name, model=tokenizer, layout=layout)
    again = Task.from_file(tokenizer, path)
    assert again.fingerprint == task.fingerprint
    assert (again.clean_text, again.name) == (task.clean_text, "facts")
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [name]


@pytest.mark.parametrize("make", [tasks.subject_verb, tasks.greater_than, tasks.docstring])
@pytest.mark.parametrize("layout", ["plain", "eap-ig"])
def test_several_answers_are_written(make, layout, bytes_, tmp_path):
    task = make(bytes_, n=6)
    path = task.save(tmp_path / "mine.csv", model=bytes_, layout=layout)
    assert Task.from_file(bytes_, path).fingerprint == task.fingerprint


def test_the_original_tools_find_their_columns(bytes_, tmp_path):
    """Each project's loader reads these columns: dataset.py and data_loading_utils.py."""
    task = tasks.facts(bytes_, n=3)
    task.save(tmp_path / "a.csv", layout="eap-ig")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clean"] for row in rows] == list(task.clean_text)
    assert [int(row["correct_idx"]) for row in rows] == task.answer[:, 0].tolist()
    assert [int(row["incorrect_idx"]) for row in rows] == task.wrong[:, 0].tolist()

    task.save(tmp_path / "b.json", layout="feature-circuits", model=bytes_)
    for i, line in enumerate((tmp_path / "b.json").read_text().splitlines()):
        row = json.loads(line)
        whole = bytes_.encode(row["clean_prefix"] + row["clean_answer"])
        assert whole == [*bytes_.encode(row["clean_prefix"]), int(task.answer[i, 0])]
        assert len(bytes_.encode(row["clean_prefix"])) == len(bytes_.encode(row["patch_prefix"]))
        assert row["case"] == "facts"

    task.save(tmp_path / "c.jsonl", layout="mib", model=bytes_)
    for i, line in enumerate((tmp_path / "c.jsonl").read_text().splitlines()):
        row = json.loads(line)
        other = row["symbol_counterfactual"]
        right, wrong = (r["choices"]["label"][r["answerKey"]] for r in (row, other))
        ids = [bytes_(word, add_special_tokens=False).input_ids[0] for word in (right, wrong)]
        assert ids == [int(task.answer[i, 0]), int(task.wrong[i, 0])]
        assert (row["prompt"], other["prompt"]) == (task.clean_text[i], task.corrupt_text[i])


def test_texts_with_line_breaks_commas_and_quotes_come_back(plain, tmp_path):
    task = Task.from_strings(
        plain, ['The "war"\nis, the', "The car: is"], ['The "siege"\nis, the', "The dog: is"],
        answer=["war", ["cat", "cats"]],
    )  # fmt: skip
    for name in ("mine.csv", "mine.json", "mine.jsonl"):
        again = Task.from_file(plain, task.save(tmp_path / name, model=plain))
        assert (again.fingerprint, again.clean_text) == (task.fingerprint, task.clean_text)


@pytest.mark.parametrize(
    ("name", "layout", "error", "message"),
    [
        ("mine.csv", "mib", OutputError, r"its files end in .jsonl or .json"),
        ("mine.json", "eap-ig", OutputError, r"its files end in .csv"),
        ("mine.csv", "plan", UnknownName, "unknown layout 'plan'"),
        ("no/mine.csv", "plain", OutputError, "does not exist; make it first"),
        ("mine.json", "mib", TaskError, "pair 0 has 3 right and 3 wrong answers, and the layout"),
        ("mine.json", "feature-circuits", TaskError, "take the layout 'plain'"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(name, layout, error, message, plain, tmp_path):
    task = tasks.subject_verb(plain, n=2)
    with pytest.raises(error, match=message):
        task.save(tmp_path / name, layout=layout, model=plain)
    assert list(tmp_path.iterdir()) == []


def test_tasks_that_no_file_can_hold_are_refused(plain, tmp_path):
    task = tasks.facts(plain, n=2)
    bare = Task.from_tokens(task.clean, task.corrupt, answer=task.answer)
    no_wrong = replace(task, wrong=task.wrong[:, :0])
    elsewhere = replace(task, position=task.position - 1)
    for given, layout, model, message in (
        (bare, "plain", plain, "was made from tokens and has no text"),
        (elsewhere, "plain", plain, "before a prompt's last token"),
        (task, "plain", None, "give the model whose tokenizer"),
        (no_wrong, "eap-ig", None, "pair 0 has no wrong answer"),
    ):
        with pytest.raises(TaskError, match=message):
            given.save(tmp_path / "mine.csv", layout=layout, model=model)
    assert list(tmp_path.iterdir()) == []


# -- bad files -------------------------------------------------------------------------------------

PAIR = "clean,corrupt,answer\nThe keys,The key,are\n"


@pytest.mark.parametrize(
    "mark",
    [("utf-8", codecs.BOM_UTF8),
     ("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16-be", codecs.BOM_UTF16_BE),
     ("utf-32-le", codecs.BOM_UTF32_LE), ("utf-32-be", codecs.BOM_UTF32_BE)],
)  # fmt: skip
def test_a_files_first_bytes_tell_its_encoding(mark, plain, tmp_path):
    encoding, first = mark
    (tmp_path / "mine.csv").write_bytes(first + PAIR.encode(encoding))
    assert Task.from_file(plain, tmp_path / "mine.csv").clean_text == ("The keys",)


def test_other_encodings_are_named_or_told(plain, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes((PAIR + "Café keys,Café key,are\n").encode("latin-1"))
    with pytest.raises(
        FileFormatError,
        match=r"mine.csv is not UTF-8 text: line 3 has the byte 0xe9; save it as UTF-8, or say",
    ):
        Task.from_file(plain, path)
    with pytest.warns(PairsLeftOut, match="do not know: .'Café'|does not know: .'Café'"):
        assert len(Task.from_file(plain, path, encoding="latin-1", skip=True)) == 1
    path.write_bytes(PAIR.encode("utf-16-le"))  # with no mark
    with pytest.raises(FileFormatError, match=r"line 1 has the byte 0x00; .* encoding='utf-16-le'"):
        Task.from_file(plain, path)
    assert len(Task.from_file(plain, path, encoding="utf-16-le")) == 1
    with pytest.raises(FileFormatError, match="there is no encoding 'latin-one'"):
        Task.from_file(plain, path, encoding="latin-one")


def test_pairs_of_unequal_length_are_counted_and_can_be_left_out(plain, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        PAIR + "The keys near the cat,The key,are\nThe keys,The key,was\nThe cats,The red cat,are\n"
    )
    with pytest.raises(AlignmentError) as caught:
        Task.from_file(plain, path)
    assert str(caught.value) == (
        f"{path}: 2 of 4 pairs do not fit this tokenizer: "
        "line 3: the clean prompt has 6 tokens and the corrupt prompt 3; "
        "line 5: the clean prompt has 3 tokens and the corrupt prompt 4; "
        "mend them, or leave them out with skip=True (--skip)"
    )
    with pytest.warns(PairsLeftOut, match=r"mine.csv: left out 2 of 4 pairs: line 3: .*; line 5: "):
        assert Task.from_file(plain, path, skip=True).clean_text == ("The keys", "The keys")


@pytest.mark.parametrize("skip", [False, True])
def test_a_file_with_no_pair_that_fits_is_refused(skip, plain, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("clean,corrupt,answer\n" + "The xyzzy,The key,are\n" * 9)
    with pytest.raises(
        TaskError,
        match=r"none of its 9 pairs fits this tokenizer: line 2: .*'xyzzy'.*; and 4 more; take ",
    ):
        Task.from_file(plain, path, skip=skip)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.csv", "", "holds no prompts: give at least one pair"),
        ("mine.json", "", "holds no prompts"),
        ("mine.jsonl", "\n\n", "holds no prompts"),
        ("mine.json", "[]", "holds no prompts"),
        ("mine.csv", PAIR + "a,b,c,d\n", "line 3 of .* has more values than the 3 columns"),
        ("mine.csv", PAIR + 'a,"b,c\n', r"is not CSV after line 2: unexpected end"),
        ("mine.csv", PAIR + "The keys,,are\n", "line 3 of .* has '' as 'corrupt'"),
        ("mine.jsonl", '{"clean": 1}\n{"clean"\n', "line 2 of .* is not JSON"),
        ("mine.json", '{\n"clean": 3}', "line 1 of .* is not JSON: .* one object a line"),
        ("mine.json", '[{"clean": "a"}, 7]', "example 2 of .* is 7: it must hold a list"),
        ("mine.txt", PAIR, "is neither a CSV nor a JSON file: name it .csv, .json, .jso"),
    ],
)  # fmt: skip
def test_files_that_hold_no_task_are_refused_with_the_line(name, content, message, plain, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(FileFormatError, match=message):
        Task.from_file(plain, tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name]


# -- Hugging Face's data sets ----------------------------------------------------------------------


def mib_parts() -> datasets.DatasetDict:
    def part(n: int) -> datasets.Dataset:
        return datasets.Dataset.from_list([mib_ioi()] * n)

    return datasets.DatasetDict({"train": part(3), "test": part(1)})


def test_a_data_set_in_memory(plain):
    parts = mib_parts()
    task = Task.from_dataset(plain, parts["train"], name="ioi")
    assert (task.name, len(task)) == ("ioi", 3)
    assert words(plain, task.answer) == [["Mary"]] * 3
    assert len(Task.from_dataset(plain, parts, split="test")) == 1
    assert len(Task.from_dataset(plain, parts, n=2)) == 2
    assert Task.from_dataset(plain, [mib_ioi()], name="rows").fingerprint == task[:1].fingerprint
    with pytest.raises(UnknownName, match="unknown split 'tst': did you mean 'test'"):
        Task.from_dataset(plain, parts, split="tst")
    with pytest.raises(FileFormatError, match="row 1 of the data set has None as 'corrupt'"):
        Task.from_dataset(
            plain, [{"clean": "The keys", "corrupt": "The key", "answer": "are"}, {"clean": "a"}]
        )
    with pytest.raises(FileFormatError, match="the data set holds no prompts"):
        Task.from_dataset(plain, [])


def test_data_sets_in_folders_and_files(plain, tmp_path):
    parts, expected = mib_parts(), Task.from_dataset(plain, mib_parts())
    parts.save_to_disk(tmp_path / "saved")
    parts["train"].save_to_disk(tmp_path / "part")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for name, part in parts.items():
        part.to_parquet(tmp_path / "hub" / "data" / f"{name}-00000-of-00001.parquet")
    parts["train"].to_parquet(tmp_path / "ioi.parquet")
    for place in ("saved", "part", "hub", "ioi.parquet"):
        assert Task.from_dataset(plain, tmp_path / place).fingerprint == expected.fingerprint
        task = Task.from_file(plain, tmp_path / place)
        assert (task.fingerprint, task.name) == (expected.fingerprint, Path(place).stem)
    for place in ("saved", "hub"):
        assert len(Task.from_dataset(plain, str(tmp_path / place), split="test")) == 1


def test_a_configuration_is_a_folder_and_mibs_own_is_taken(plain, tmp_path):
    for config, row in (("2_answer_choices", mib_ioi()), ("4_answer_choices", mib_letters())):
        (tmp_path / "mcqa" / config).mkdir(parents=True)
        part = datasets.Dataset.from_list([row])
        part.to_parquet(tmp_path / "mcqa" / config / "train-00000-of-00001.parquet")
    assert words(plain, Task.from_dataset(plain, tmp_path / "mcqa").answer) == [["B"]]
    other = Task.from_dataset(plain, tmp_path / "mcqa", config="2_answer_choices")
    assert words(plain, other.answer) == [["Mary"]]
    assert list(tasks.read_folder(plain, tmp_path / "mcqa")) == [
        "2_answer_choices",
        "4_answer_choices",
    ]


def test_a_data_set_that_is_nowhere_is_refused(plain, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", "mib-bench/no-such-data-set"):
        with pytest.raises(
            TaskError, match=r"cannot load the data set .*check its name, its split"
        ):
            Task.from_dataset(plain, place)


def test_a_folder_of_data_sets_becomes_tasks(bytes_, tmp_path):
    folder = tmp_path / "mib"
    folder.mkdir()
    mib_parts().save_to_disk(folder / "ioi")
    lines(folder / "arithmetic_addition.jsonl", mib_sum(), {**mib_sum(), "label": "38x"})
    lines(folder / "copycolors_mcqa.json", mib_letters())
    (folder / "README.md").write_text("passed over")
    with pytest.raises(TaskError, match="1 of 2 pairs do not fit"):
        tasks.read_folder(bytes_, folder)
    with pytest.warns(PairsLeftOut):
        found = tasks.read_folder(bytes_, folder, skip=True)
    assert {name: len(task) for name, task in found.items()} == {
        "arithmetic_addition": 1, "copycolors_mcqa": 1, "ioi": 3,
    }  # fmt: skip
    with pytest.warns(PairsLeftOut):
        few = tasks.read_folder(bytes_, folder, skip=True, n=2)
    assert {len(task) for task in few.values()} == {1, 2}
    with pytest.raises(FileFormatError, match="no such folder"):
        tasks.read_folder(bytes_, tmp_path / "none")
    (tmp_path / "bare").mkdir()
    with pytest.raises(
        FileFormatError, match=r"holds no data set: put files in it that end in .csv"
    ):
        tasks.read_folder(bytes_, tmp_path / "bare")
