"""Where options come from, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hyper_registry import __main__ as main
from hyper_registry import app
from hyper_registry.config import PLANNED, Config, ConfigError, is_loopback, split_address


class Started(Exception):
    """The server would have started, with this."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config


@pytest.fixture(autouse=True)
def _not_really(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is served, and neither this machine's files nor its environment count."""

    async def run(config: Config) -> None:
        raise Started(config)

    monkeypatch.setattr(app, "run", run)
    monkeypatch.setattr(main, "SYSTEM_CONFIG", tmp_path / "none.yaml")
    monkeypatch.chdir(tmp_path)
    for name in ("REGISTRY_DB", "REGISTRY_CONFIG", "REGISTRY_GRPC_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def serve(*arguments: str, **environment: str) -> Result:
    """`nexus-registry serve` with these flags and this environment."""
    return CliRunner().invoke(main.serve, arguments, env=environment)


def config_of(result: Result) -> Config:
    """What it would have been started with."""
    assert isinstance(result.exception, Started), result.output
    return result.exception.config


def test_flag_over_environment_over_file(tmp_path: Path) -> None:
    """Each option is taken from the strongest place that has it."""
    file = tmp_path / "registry.yaml"
    file.write_text(
        "database: file.db\ngrpc-address: 127.0.0.1:1\nhttp_address: 127.0.0.1:2\nmax_watches: 7\n"
    )
    config = config_of(
        serve(
            "--config", str(file), "--http-address", "127.0.0.1:9", "--grpc-address", "127.0.0.1:8",
            REGISTRY_GRPC_ADDRESS="127.0.0.1:5", REGISTRY_DB="env.db",
        )
    )  # fmt: skip
    assert config.grpc_address == "127.0.0.1:8"  # flag, environment and file have it
    assert config.http_address == "127.0.0.1:9"  # flag and file
    assert config.database == "env.db"  # environment and file
    assert config.max_watches == 7  # file
    assert config.retention_seconds == 3600  # nobody


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    """REGISTRY_CONFIG does what --config does."""
    (tmp_path / "r.yaml").write_text("insecure: true\nlog-level: error\n")
    config = config_of(serve("--database", "x.db", REGISTRY_CONFIG=str(tmp_path / "r.yaml")))
    assert config.insecure
    assert config.log_level == "error"


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    """All defaults hold."""
    (tmp_path / "r.yaml").write_text("# nothing\n")
    config = config_of(serve("--config", str(tmp_path / "r.yaml"), "--database", "x.db"))
    assert config == Config("x.db")


@pytest.mark.parametrize("key", sorted(PLANNED))
def test_planned_keys_are_refused(tmp_path: Path, key: str) -> None:
    """Configuration of what comes later is not passed over in silence."""
    (tmp_path / "r.yaml").write_text(f"{key}:\n  enabled: true\n")
    result = serve("--config", str(tmp_path / "r.yaml"))
    assert result.exit_code != 0
    assert f"{key}: {PLANNED[key]} is not part of this version" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour: blue\n", "no option 'colour'"),
        ("- a\n", "a mapping of options"),
        ("a: [\n", "is not YAML"),
        ("max_watches: many\n", "many"),
        ("retention_seconds: -1\n", "-1"),
        ("log_level: loud\n", "loud"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message says what is wrong."""
    (tmp_path / "r.yaml").write_text(text)
    result = serve("--config", str(tmp_path / "r.yaml"))
    assert result.exit_code != 0
    assert message in result.output
    assert not isinstance(result.exception, Started)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """One that was named must exist."""
    result = serve("--config", str(tmp_path / "none.yaml"))
    assert result.exit_code != 0
    assert "none.yaml" in result.output


@pytest.mark.parametrize(
    ("address", "is_private"),
    [
        ("127.0.0.1:1", True),
        ("127.8.9.10:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.168.1.4:1", False),
        ("registry.example.org:1", False),
    ],
)
def test_public_addresses_need_a_word(address: str, is_private: bool) -> None:
    """Only loopback is served without --insecure."""
    assert is_loopback(split_address("x", address)[0]) is is_private
    for config in (Config("x", grpc_address=address), Config("x", http_address=address)):
        if is_private:
            config.check()
        else:
            with pytest.raises(ConfigError, match="--insecure"):
                config.check()
    Config("x", grpc_address=address, insecure=True).check()


@pytest.mark.parametrize("origin", ["*", "https://app.example.org", "http://localhost:3000"])
def test_origins(origin: str) -> None:
    """They are written as browsers send them; there may be several."""
    config = config_of(
        serve("--database", "x", "--cors-origins", origin, "--cors-origins", "http://[::1]:80")
    )
    assert config.cors_origins == (origin, "http://[::1]:80")
    config.check()
    assert config_of(serve("--database", "x", REGISTRY_CORS_ORIGINS=f"{origin} https://b")) == (
        Config("x", cors_origins=(origin, "https://b"))
    )


@pytest.mark.parametrize(
    "origin", ["", "app.example.org", "https://a/", "https://a/b", "h", "https://*.a", "null"]
)
def test_what_is_no_origin(origin: str) -> None:
    """It would never match, so it is refused."""
    with pytest.raises(ConfigError, match="cors_origins"):
        Config("x", cors_origins=(origin,)).check()


@pytest.mark.parametrize("host", ["*", "registry.example.org", "*.apps.example.org", "a_b"])
def test_hosts(host: str) -> None:
    """They are names, without a port; there may be several."""
    config = config_of(serve("--database", "x", "--allowed-hosts", host, "--allowed-hosts", "b"))
    assert config.allowed_hosts == config.hosts == (host, "b")
    config.check()
    assert config_of(serve("--database", "x", REGISTRY_ALLOWED_HOSTS=f"{host} b")) == config


@pytest.mark.parametrize("host", ["", "https://a", "a:8080", "a/b", "*.", "a.*", "**", ".a", "::1"])
def test_what_is_no_host(host: str) -> None:
    """It would never match, so it is refused."""
    with pytest.raises(ConfigError, match="allowed_hosts are"):
        Config("x", allowed_hosts=(host,)).check()


def test_hosts_of_an_address() -> None:
    """Only where no other machine reaches it, names are known: those of this machine."""
    for address in ("127.0.0.1:1", "127.0.0.2:1", "[::1]:1", "localhost:1", ""):
        assert Config("x", http_address=address).hosts == ()
    for address in ("0.0.0.0:1", "[::]:1", "192.0.2.1:1", "registry.example.org:1"):
        assert Config("x", http_address=address).hosts == ("*",)
        assert Config("x", http_address=address, allowed_hosts=("a",)).hosts == ("a",)


@pytest.mark.parametrize("address", ["", "localhost", ":1", "localhost:", "localhost:x", "h:65536"])
def test_malformed_addresses(address: str) -> None:
    """They are HOST:PORT."""
    with pytest.raises(ConfigError, match="HOST:PORT"):
        split_address("grpc_address", address)


def test_networks_that_may_be_probed() -> None:
    """Flags and the environment name several; what is no network is refused with what is meant."""
    flags = config_of(serve("--probes", "--probe-allow", "10.0.0.0/8", "--probe-allow", "::1"))
    assert (flags.probes, flags.probe_allow) == (True, ("10.0.0.0/8", "::1"))
    named = config_of(serve(REGISTRY_PROBE_ALLOW="10.0.0.0/8 ::1"))
    assert (named.probes, named.probe_allow) == (False, ("10.0.0.0/8", "::1"))
    named.check()
    with pytest.raises(ConfigError, match=r"probe_allow are networks such as .*host bits set"):
        Config("x.db", probe_allow=("10.0.0.1/8",)).check()
