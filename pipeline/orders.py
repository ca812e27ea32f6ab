"""Orders: what a run asks helpers on other machines to do, told through the store, which is all they share.

::

    orders/ID.json               the configuration, the shards that are to be made, and the models they need
    models/DIGEST.onnx           a network or generator; DIGEST.codes.npz beside a generator
    models/DIGEST.json           the SHA-256 of these files; written last

A helper needs no configuration, no model file and no PyTorch: it reads the order, fetches the models once per machine,
and takes shards under claims like everybody else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.host import chosen_precision
from engine.runtimes import get_builder
from export.errors import AtlasError, StoreError
from export.generator import load_generator
from export.network import load_network
from pipeline.config import AtlasConfig, parse_config
from pipeline.plan import Plan, Shard
from pipeline.retention import MODELS, ORDERS
from pipeline.store import MALFORMED, Store
from pipeline.temporary import replace_file
from pipeline.workspace import CACHE, Workspace


@dataclass(frozen=True)
class Order:
    """Work for helpers.

    Attributes:
        config: the configuration as plain data.
        network: digest of the network.
        generator: digest of the generator.
        shards: to be made.
    """

    config: dict[str, Any]
    network: str
    generator: str
    shards: tuple[Shard, ...]

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Order:
        """Raises ValueError, KeyError, TypeError or AttributeError if ``data`` is no order."""
        raw = json.loads(data)
        shards = tuple(Shard(**{**shard, "units": tuple(shard["units"])}) for shard in raw["shards"])
        return cls(dict(raw["config"]), str(raw["network"]), str(raw["generator"]), shards)


def write_order(workspace: Workspace, plan: Plan) -> str:
    """Write an order for everything a plan lacks, with its recipes and models; return its id.

    Raises:
        StoreError, StoreUnavailableError: the store cannot be written.
    """
    store, todo = workspace.store, {shard.key for shard in plan.shards}
    for layer in plan.all_layers:
        for seed in layer.seeds:
            if seed.recipe.key in todo:
                store.write_recipe(seed.recipe)
    network, generator = workspace.network, workspace.generator
    put_model(store, network.digest, {"onnx": network.path})
    put_model(store, generator.digest, {"onnx": generator.path, "codes.npz": generator.path.with_suffix(".codes.npz")})
    config = workspace.config.model_dump(mode="json", exclude={"folder"})
    config["run"]["runtime"] = workspace.builder.name  # not "auto", which may be another elsewhere
    order = Order(config, network.digest, generator.digest, plan.shards)
    name = secrets.token_hex(8)
    store.blobs.write(f"{ORDERS}/{name}.json", order.to_json())
    return name


def remove_order(store: Store, name: str) -> None:
    """Take an order back; helpers at work on it go on."""
    store.blobs.remove(f"{ORDERS}/{name}.json")


def read_order(store: Store, name: str) -> Order | None:
    """An order; None if it has been taken back.

    Raises:
        StoreError: it is damaged.
    """
    data = store.blobs.read(f"{ORDERS}/{name}.json")
    if data is None:
        return None
    try:
        return Order.from_json(data)
    except MALFORMED as error:
        raise StoreError(f"order {name} of {store.url} is damaged ({error}); run the atlas again") from error


def open_order(store: Store, order: Order, store_options: Mapping[str, Any] | None = None) -> Workspace:
    """A workspace that makes exactly the shards of an order.

    Raises:
        InputError: the runtime or precision cannot run here, or the models are gone.
        AtlasError: this machine's software would make other results; the message says what differs.
    """
    config: AtlasConfig = parse_config(order.config, "of the order")
    builder = get_builder(config.run.runtime)
    chosen_precision({"precision": config.run.precision}, builder.precisions(), builder.name)
    network = load_network(fetch_model(store, order.network, CACHE))
    generator = load_generator(fetch_model(store, order.generator, CACHE))
    if (network.digest, generator.digest) != (order.network, order.generator):
        raise StoreError(f"the models of {store.url} are not those of the order; run the atlas again")
    workspace = Workspace(config, config.default_out, network, generator, builder, store, network.labels)
    workspace = dataclasses.replace(workspace, store_options=dict(store_options or {}))
    for shard in {(shard.layer, shard.seed): shard for shard in order.shards}.values():
        _check_recipe(workspace, shard)
    return workspace


def put_model(store: Store, digest: str, files: Mapping[str, Path]) -> None:
    """Copy a model's files into the store unless they are there."""
    record = f"{MODELS}/{digest}.json"
    contents = {suffix: path.read_bytes() for suffix, path in files.items()}
    sums = {suffix: hashlib.sha256(data).hexdigest() for suffix, data in contents.items()}
    text = (json.dumps(sums, sort_keys=True) + "\n").encode()
    if store.blobs.read(record) == text:
        return
    for suffix, data in contents.items():
        store.blobs.write(f"{MODELS}/{digest}.{suffix}", data)
    store.blobs.write(record, text)


def fetch_model(store: Store, digest: str, cache: Path) -> Path:
    """The model's ``.onnx`` file on this machine, fetched unless it is there.

    Raises:
        StoreError: the store does not hold it, or holds it damaged.
    """
    try:
        sums: dict[str, str] = json.loads(store.blobs.read(f"{MODELS}/{digest}.json") or b"")
    except ValueError as error:
        raise StoreError(f"model {digest[:12]} is not in the store {store.url}; run the atlas again") from error
    for suffix, expected in sums.items():
        path = cache / f"{digest}.{suffix}"
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == expected:
            continue
        data = store.blobs.read(f"{MODELS}/{digest}.{suffix}")
        if data is None or hashlib.sha256(data).hexdigest() != expected:
            store.blobs.remove(f"{MODELS}/{digest}.json")
            raise StoreError(f"model {digest[:12]} in the store {store.url} is damaged; run the atlas again")
        replace_file(path, data)
    return cache / f"{digest}.onnx"


def _check_recipe(workspace: Workspace, shard: Shard) -> None:
    """See that this machine would make what was ordered."""
    recipe = workspace.recipe(workspace.network.layer(shard.layer), shard.seed).with_start(shard.start)
    if recipe.key == shard.key:
        return
    ours, theirs = recipe.to_dict(), workspace.store.read_recipe(shard.key) or {}
    differing = [name for name in ours if ours[name] != theirs.get(name)]
    words = "; ".join(f"{name} is {ours[name]} here and {theirs.get(name)} there" for name in differing)
    raise AtlasError(f"this machine would make other results than were ordered: {words}; install the same versions")
