"""The storage file of an embedded stack."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.embedding import Wish, basis, storage_document
from cli.state import StateFolder
from shared.config import decode_storage
from shared.errors import BadConfig
from tests.e2e.stacks import write_config


def document(tmp_path: Path, wish: Wish, **environ: str) -> dict[str, Any]:
    found = basis(wish, environ)
    state = StateFolder(tmp_path / "state")
    made = storage_document(found, wish, state, nats_url="nats://127.0.0.1:7", redis_port=8, datasets_root=tmp_path / "lerobot")
    decode_storage(made, environ, place="made")
    return made


def test_bus_and_ledger_are_replaced_and_their_other_settings_kept(tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "lab",
        nats={"servers": ["nats://far"], "password": "secret", "ack_wait_s": 7},
        redis={"host": "far", "password": "secret", "max_workers": 5, "queue_name": "old"},
    )
    made = document(tmp_path, Wish(config=config))

    assert made["nats"] == {"ack_wait_s": 7, "servers": ["nats://127.0.0.1:7"]}
    assert made["redis"] == {"host": "127.0.0.1", "port": 8, "max_workers": 5}
    assert made["conversion"]["config_template"] == str(tmp_path / "lab" / "strategy.yaml")


def test_what_is_left_open_gets_a_place_in_the_state_folder(tmp_path: Path) -> None:
    made = document(tmp_path, Wish(config=write_config(tmp_path / "lab", bos={"download": {"temp_dir": "${LEROBOT_TEMP_DIR}"}})))

    assert made["store"] == (tmp_path / "state" / "store").as_uri()
    assert made["conversion"]["spool"]["path"] == str(tmp_path / "state" / "spool")
    assert made["bos"]["download"]["temp_dir"] == str(tmp_path / "state" / "work")
    assert made["datasets"]["root"] == str(tmp_path / "lerobot")


def test_own_bucket_stays_and_an_option_goes_before_it(tmp_path: Path) -> None:
    config = write_config(tmp_path / "lab", bos={"endpoint": "http://s3", "bucket": "${BUCKET}"})
    kept = document(tmp_path, Wish(config=config), BUCKET="robots")
    replaced = document(tmp_path, Wish(config=config, store="file:///data"), BUCKET="robots")

    assert "store" not in kept
    assert "datasets" not in kept
    assert kept["bos"]["bucket"] == "${BUCKET}"
    assert replaced["store"] == "file:///data"


def test_log_file_of_its_own_is_not_shared_by_processes_and_a_notice_says_so(tmp_path: Path) -> None:
    config = write_config(tmp_path / "lab", logging={"level": "DEBUG", "file": "x.log"})
    made = document(tmp_path, Wish(config=config))

    assert made["logging"] == {"level": "DEBUG"}
    assert "logging.file is not used by `up`" in basis(Wish(config=config), {}).notices[0]


def test_metrics_port_is_not_shared_by_processes_and_a_notice_says_so(tmp_path: Path) -> None:
    config = write_config(tmp_path / "lab", metrics={"port": 9100})
    made = document(tmp_path, Wish(config=config), METRICS_PORT="9101")

    assert made["metrics"] == {"port": 0}
    assert "metrics.port is not used by `up`" in basis(Wish(config=config), {}).notices[0]


def test_store_that_is_no_uri_is_refused() -> None:
    with pytest.raises(BadConfig, match="--store: 'data' is no store"):
        basis(Wish(store="data"), {})


def test_defaults_without_a_file_use_the_shipped_strategy(tmp_path: Path) -> None:
    made = document(tmp_path, Wish())

    assert Path(made["conversion"]["config_template"]).name == "nearest.yaml"
    assert msgspec.yaml.decode(Path(made["conversion"]["config_template"]).read_bytes())["alignment"]["strategy"] == "nearest"
