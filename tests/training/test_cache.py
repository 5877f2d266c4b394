import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.factories import StoreFactory, png
from tests.training.conftest import Lines
from tests.training.test_resume import table_of
from toolkit.errors import InputError
from toolkit.files.atomic import parts
from toolkit.sharding import Shard
from toolkit.store.images import image_versions, write_images
from training.caches import (
    DiskCache,
    Encoded,
    ReferenceErrors,
    cache_folder,
    image_bytes,
    image_ingredients,
    network_ingredients,
    prompt_bytes,
    text_ingredients,
)
from training.models import hash_parts, load_models
from training.pairs import load_pairs
from training.precompute import encoding_size, precompute
from training.recipe import Recipe
from training.trainer import train

MakeRecipe = Callable[..., Recipe]


def test_a_damaged_entry_of_a_disk_cache_is_absent_and_put_again(tmp_path: Path) -> None:
    arrays = {f"name {k}": (np.full((64, 4), k, np.float16),) for k in range(8)}
    cache = DiskCache(tmp_path)
    for name, some in arrays.items():
        cache.put(name, some)
    cache.flush()
    [part] = tmp_path.glob("part-*.arrow")
    data = bytearray(part.read_bytes())
    data[data.index(arrays["name 3"][0].tobytes()) + 100] ^= 1
    part.write_bytes(data)
    reopened = DiskCache(tmp_path)
    assert [name for name in arrays if reopened.get(name) is None] == ["name 3"]
    reopened.put("name 3", arrays["name 3"])
    reopened.flush()
    part.write_bytes(data[:200])
    assert len(DiskCache(tmp_path)) == 1


def test_a_disk_cache_gives_back_what_it_was_given_also_to_another_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = {
        f"name {k}": (rng.random((2, 3)).astype(np.float16), np.arange(k, k + 4, dtype=np.int32))
        for k in range(7)
    }
    cache = DiskCache(tmp_path)
    for k, (name, arrays) in enumerate(values.items()):
        cache.put(name, arrays)
        if k in (2, 4):
            cache.flush()
    assert "name 6" in cache
    assert "name 6" not in DiskCache(tmp_path)  # not flushed yet
    cache.flush()
    cache.flush()
    assert len(list(tmp_path.glob("part-*.arrow"))) == 3
    for opened in (cache, DiskCache(tmp_path)):
        assert len(opened) == 7
        for name, arrays in values.items():
            found = opened.get(name)
            assert found is not None
            for one, other in zip(arrays, found, strict=True):
                np.testing.assert_array_equal(one, other)
    assert DiskCache(tmp_path).get("stranger") is None


def test_what_a_killed_writer_left_is_no_part(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.put("a", (np.zeros(3),))
    cache.flush()
    (tmp_path / ".part-9.arrow.99999999.unfinished").write_bytes(b"ARROW1 half")
    assert len(DiskCache(tmp_path)) == 1


def test_another_ingredient_is_another_folder(tmp_path: Path) -> None:
    one = cache_folder(tmp_path, "posteriors", {"vae": "x", "resolution": 512})
    assert one == cache_folder(tmp_path, "posteriors", {"resolution": 512, "vae": "x"})
    assert one != cache_folder(tmp_path, "posteriors", {"vae": "x", "resolution": 768})
    assert (one / "about.json").exists()


def test_entries_have_the_same_bits_whatever_they_were_met_with(
    make_store: StoreFactory, sdxl: Path
) -> None:
    store = make_store()
    pairs = load_pairs(store, labels="original", split="train")
    models = load_models(str(sdxl))
    alone = Encoded(store, models, 16, memory_gb=0)
    together = Encoded(store, models, 16, memory_gb=1)
    images, prompts = pairs.image_0[:11], sorted(set(pairs.prompt))
    many = together.posteriors(images)[0]
    words = together.prompts(prompts)
    for k, image in enumerate(images):
        assert torch.equal(many[k], alone.posteriors([image])[0][0])
    for k, prompt in enumerate(prompts):
        states, pooled = alone.prompts([prompt])
        assert torch.equal(words[0][k], states[0])
        assert pooled is not None
        assert words[1] is not None
        assert torch.equal(words[1][k], pooled[0])


def test_filling_goes_on_where_it_was_stopped_and_a_run_reads_it(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    recipe = recipe_for(store, steps=2, caches={"disk": True})
    models = load_models(recipe.backbone.path)
    some = Encoded(store, models, 16, hashes=hash_parts(models))
    some.posteriors(load_pairs(store, labels="original", split="train").image_0[:5])
    some.flush()
    assert precompute(recipe) == (80 - 5, 10 + 1)
    assert precompute(recipe) == (0, 0)
    size = sum(p.stat().st_size for p in store.folder("caches").rglob("*.arrow"))
    assert encoding_size(models, 16, 80, 11).startswith(
        "80 images and 11 prompts to encode: 0.00 GB"
    )
    plain = 80 * image_bytes(models, 16) + 11 * prompt_bytes(models)
    assert plain < size < plain + 20_000  # names and file headers come on top

    def never(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("training.caches.encode_images", never)
    monkeypatch.setattr("training.caches.encode_prompts", never)
    train(recipe)


def test_filling_and_the_announced_size_count_held_out_pairs(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """26 trained pairs have images of their own, 10 of 14 others are held out."""
    store = make_store(held_out=14)
    recipe = recipe_for(store, steps=2, caches={"disk": True}, held_out={"pairs": 10, "draws": 1})
    lines = Lines()
    train(recipe.model_copy(update={"run": "first", "steps": 1}), progress=lines)
    announced = "72 images and 10 prompts to encode: 0.00 GB on the store's disk"
    assert any(announced in line for line in lines.lines)
    assert precompute(recipe)[0] == 72 - 2 * (10 + 10)  # the first run's step and measuring
    monkeypatch.setattr("training.caches.encode_images", None)
    monkeypatch.setattr("training.caches.encode_prompts", None)
    train(recipe)


def test_other_bytes_under_an_images_name_are_another_entry(
    make_store: StoreFactory, recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    """A referenced file that was replaced is encoded again; one that is away is as it was."""
    store = make_store(pairs=2)
    file = tmp_path / "seen.png"
    file.write_bytes(png((200, 10, 30)))
    write_images(store, [{"image_id": "seen", "ref_file": str(file)}])
    models = load_models(recipe_for(store).backbone.path)

    def encoded() -> torch.Tensor:
        found = Encoded(store, models, 16, hashes=hash_parts(models))
        value = found.posteriors(["seen", "img-0000-0"])[0]
        found.flush()
        return value

    first = encoded()
    assert torch.equal(encoded(), first)
    file.write_bytes(png((3, 90, 250)))
    os.utime(file, ns=(1, 1))
    second = encoded()
    assert (first[0] - second[0]).abs().max() > 0.1
    assert torch.equal(first[1], second[1])
    file.unlink()
    assert torch.equal(encoded(), second)


def test_reference_errors_are_computed_anew_for_other_images(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(pairs=10)
    ask = {"steps": 1, "draws": {"kind": "fixed", "count": 1}, "caches": {"disk": True}}
    train(recipe_for(store, run="a", **ask))
    changed = dict.fromkeys(image_versions(store), "other")
    for module in ("training.setup", "training.caches"):
        monkeypatch.setattr(f"{module}.image_versions", lambda _: changed)
    train(recipe_for(store, run="b", **ask))
    assert len(list(store.folder("caches", "reference").iterdir())) == 2


def test_a_part_that_does_not_fit_on_the_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = DiskCache(tmp_path)
    cache.put("a", (np.zeros(3),))
    monkeypatch.setattr("training.caches.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.flush()
    assert list(tmp_path.iterdir()) == []


def test_known_reference_errors_are_read_and_nothing_else_changes(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store(pairs=20)
    draws = {"kind": "fixed", "count": 2}
    train(recipe_for(store, run="a", draws=draws, caches={"disk": True}))
    folder = next(store.folder("caches", "reference").iterdir())
    rows = [row for part in parts(folder) for row in pq.read_table(part).to_pylist()]
    assert len(rows) == 20 * 2
    train(recipe_for(store, run="b", draws=draws, caches={"disk": True}))
    assert len(parts(folder)) == 1  # nothing new to write
    assert table_of(store, "a") == table_of(store, "b")
    train(recipe_for(store, run="c", draws=draws, seed=1, caches={"disk": True}))
    assert len(list(store.folder("caches", "reference").iterdir())) == 2


def test_reference_errors_follow_the_label_and_are_known_all_or_none(
    make_store: StoreFactory,
) -> None:
    pairs = load_pairs(make_store(), labels="original", split="train")
    cache = ReferenceErrors(pairs, 2, None, {})
    cache.put(np.array([3, 4]), np.array([0, 1]), np.array([[1.0, 2.0], [5.0, 6.0]]))
    label = np.array([1.0, 0.0])
    found = cache.known([3, 4], [0, 1], label)
    np.testing.assert_array_equal(found, [[1.0, 6.0], [5.0, 2.0]])
    assert cache.known([3, 4], [0, 0], label) is None
    cache.put(np.array([3]), np.array([0]), np.array([[9.0], [9.0]]))
    np.testing.assert_array_equal(cache.known([3], [0], label[:1]), [[1.0], [5.0]])


def test_shards_fill_each_a_share_and_together_the_whole(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    recipe = recipe_for(make_store(), steps=2, caches={"disk": True})
    done = [precompute(recipe, shard=Shard(index, 3)) for index in (1, 0, 2)]
    assert done == [(27, 4), (26, 3), (27, 4)]  # stretches of 80 images and 11 prompts
    assert precompute(recipe, shard=Shard(1, 3)) == (0, 0)
    assert precompute(recipe) == (0, 0)


def test_a_run_reads_large_row_groups_from_the_cache_or_not_at_all(
    make_store: StoreFactory,
    recipe_for: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = make_store(pairs=4)
    pairs = load_pairs(store, labels="original", split="train")
    images = [png((60 * k, 10, 30)) for k in range(4)]
    file = tmp_path / "large.parquet"
    pq.write_table(pa.table({"jpg": images}), file)
    shutil.rmtree(store.folder("images"))
    refer = {"ref_file": str(file), "ref_column": "jpg"}
    names = [*pairs.image_0, *pairs.image_1]
    write_images(store, [{"image_id": n, "ref_row": k % 4, **refer} for k, n in enumerate(names)])
    monkeypatch.setattr("toolkit.store.images.STREAMED_BYTES", 100)
    recipe = recipe_for(store, steps=1, caches={"disk": True})
    with pytest.raises(InputError, match=r"large\.parquet.*outvoted cache"):
        train(recipe)
    assert store.runs() == []
    precompute(recipe)
    assert train(recipe) == recipe.run


CONTENT = {
    "vae": {"posteriors"},
    "text_encoder": {"prompts"},
    "tokenizer": {"prompts"},
    "unet": {"network"},
    "scheduler": {"network"},
}


@pytest.mark.parametrize("part", CONTENT)
def test_a_changed_part_of_the_backbone_is_another_entry_of_what_depends_on_it(
    part: str, sd: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(sd, tmp_path / "model")
    models = load_models(str(folder))

    def ingredients() -> dict[str, dict]:
        return {
            "posteriors": image_ingredients(hash_parts(models), 16),
            "prompts": text_ingredients(hash_parts(models)),
            "network": network_ingredients(hash_parts(models)),
        }

    before = ingredients()
    file = next(iter(sorted((folder / part).glob("*.json"))))
    file.write_text(file.read_text() + "\n")
    after = ingredients()
    assert {name for name in after if after[name] != before[name]} == CONTENT[part]
    assert image_ingredients(hash_parts(models), 32) != after["posteriors"]


def test_errors_of_a_reference_with_another_alpha_are_not_read(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    """An adapter to start from is the same tensors under any alpha, and another network."""
    store = make_store(pairs=10)
    ask = {"steps": 1, "draws": {"kind": "fixed", "count": 1}, "caches": {"disk": True}}
    for alpha in (4, 8, 4):
        lora = {"lora": {"rank": 4, "alpha": alpha}}
        train(recipe_for(store, run=f"r{time.time_ns()}", backbone=lora, **ask))
    folders = list(store.folder("caches", "reference").iterdir())
    assert sorted(len(parts(folder)) for folder in folders) == [1, 1]
