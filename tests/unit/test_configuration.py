"""Where settings come from: who wins, what is refused, and what the refusal says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from amqp_broker.cli.config_file import RABBITMQ_KEYS
from amqp_broker.cli.configuration import Configuration, ConfigurationError, default_data_folder, load
from amqp_broker.settings import DESCRIPTIONS

HOME = {"HOME": "/home/somebody"}


def configuration(
    *,
    command_line: dict[str, str | None] | None = None,
    file: Path | None = None,
    environment: dict[str, str] | None = None,
) -> Configuration:
    return load(command_line or {}, file, {**HOME, **(environment or {})})


def refusal(**given: object) -> str:
    with pytest.raises(ConfigurationError) as refused:
        configuration(**given)  # type: ignore[arg-type]
    text = str(refused.value)
    assert "\n" not in text
    return text


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "broker.toml"


def test_defaults_when_nothing_is_given() -> None:
    found = configuration()
    assert found.settings.port == 5672
    assert found.settings.data_dir == "/home/somebody/.local/state/amqp-broker"
    assert set(found.origins.values()) == {"default"}


def test_the_command_line_wins_over_the_environment_over_the_file_over_rabbitmqs_variables(toml: Path) -> None:
    layers: list[tuple[str, str]] = []
    environment = {"RABBITMQ_DEFAULT_USER": "of-rabbitmq"}
    command_line: dict[str, str | None] = {"default_user": None}

    def note() -> None:
        found = configuration(command_line=command_line, file=toml, environment=environment)
        layers.append((found.settings.default_user, found.origins["default_user"]))

    toml.write_text("")
    note()
    toml.write_text("default_user = 'of-file'")
    note()
    environment["AMQP_BROKER_DEFAULT_USER"] = "of-environment"
    note()
    command_line["default_user"] = "of-command-line"
    note()
    assert layers == [
        ("of-rabbitmq", "environment RABBITMQ_DEFAULT_USER"),
        ("of-file", f"file {toml}"),
        ("of-environment", "environment AMQP_BROKER_DEFAULT_USER"),
        ("of-command-line", "command line --default-user"),
    ]


def test_the_variables_of_rabbitmqs_container_image() -> None:
    settings = configuration(
        environment={
            "RABBITMQ_DEFAULT_USER": "me",
            "RABBITMQ_DEFAULT_PASS": "secret",
            "RABBITMQ_DEFAULT_VHOST": "shop",
        }
    ).settings
    assert (settings.default_user, settings.default_password, settings.default_virtual_host) == ("me", "secret", "shop")


def test_an_empty_variable_of_rabbitmq_counts_as_not_set_an_empty_one_of_ours_does_not(toml: Path) -> None:
    found = configuration(
        environment={"RABBITMQ_DEFAULT_USER": "", "RABBITMQ_DEFAULT_PASS": "", "RABBITMQ_DEFAULT_VHOST": ""}
    )
    assert set(found.origins.values()) == {"default"}
    for name in ("default_user", "default_virtual_host"):
        variable = f"AMQP_BROKER_{name.upper()}"
        assert refusal(environment={variable: ""}) == f"{variable} takes a text of 1 to 255 bytes in UTF-8, not ''"
        toml.write_text(f"{name} = ''")
        assert refusal(file=toml).startswith(f"{name} in config file {toml} takes a text of 1 to 255 bytes")


def test_names_that_are_too_long_are_refused(toml: Path) -> None:
    toml.write_text(f"default_virtual_host = '{'x' * 300}'")
    assert "takes a text of 1 to 255 bytes" in refusal(file=toml)
    assert "takes a text of 1 to 255 bytes" in refusal(environment={"RABBITMQ_DEFAULT_USER": "\u00e9" * 128})


def test_texts_with_a_null_character_are_refused(toml: Path) -> None:
    for line in ('data_dir = "/tmp/a\\u0000b"', 'tls_key = "\\u0000"', 'host = ["a", "b\\u0000"]'):
        toml.write_text(line)
        assert refusal(file=toml).endswith("none with a null character: take it out")


def test_a_data_folder_that_cannot_be_found_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(
        r"data folder '~nosuchuser/x' \(command line --data-dir\) cannot be found: .*: name another with --data-dir",
        refusal(command_line={"data_dir": "~nosuchuser/x"}),
    )

    def without_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", without_home)
    assert refusal(environment={"HOME": ""}).startswith("the user's state folder cannot be found: ")
    assert configuration(environment={"HOME": ""}, command_line={"data_dir": "/x"}).settings.data_dir == "/x"


def test_every_kind_of_value_in_a_file(toml: Path) -> None:
    toml.write_text("port = 1\nhost = ['a', 'b']\nloopback_users = []\nlog_format = 'json'\nproduct = 'x'")
    settings = configuration(file=toml).settings
    assert (settings.port, settings.host, settings.loopback_users) == (1, ("a", "b"), ())
    assert (settings.log_format, settings.product) == ("json", "x")


@pytest.mark.parametrize(
    ("text", "hosts"), [("a", ("a",)), ("a, b", ("a", "b")), ("::1,127.0.0.1", ("::1", "127.0.0.1"))]
)
def test_lists_are_written_with_commas(text: str, hosts: tuple[str, ...], toml: Path) -> None:
    toml.write_text(f"host = '{text}'")
    assert configuration(file=toml).settings.host == hosts
    assert configuration(command_line={"host": text}).settings.host == hosts
    assert configuration(environment={"AMQP_BROKER_HOST": text}).settings.host == hosts


def test_the_environment_names_the_file(toml: Path) -> None:
    toml.write_text("port = 7")
    assert configuration(environment={"AMQP_BROKER_CONFIG": str(toml)}).settings.port == 7


def test_data_folders_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert configuration(command_line={"data_dir": "here"}).settings.data_dir == str(tmp_path / "here")
    assert configuration(command_line={"data_dir": ""}).settings.data_dir.endswith("/amqp-broker")


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {"HOME": "/h"}, "/h/.local/state/amqp-broker"),
        ("linux", {"HOME": "/h", "XDG_STATE_HOME": "/state"}, "/state/amqp-broker"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Application Support/amqp-broker"),
        ("win32", {"HOME": "/h", "LOCALAPPDATA": "/l"}, "/l/amqp-broker"),
        ("win32", {"HOME": "/h"}, "/h/AppData/Local/amqp-broker"),
    ],
)
def test_the_default_data_folder_of_each_platform(platform: str, environment: dict[str, str], folder: str) -> None:
    assert default_data_folder(platform, environment) == Path(folder)


def test_an_unknown_key_is_refused_with_what_was_probably_meant(toml: Path) -> None:
    toml.write_text("prot = 5672")
    assert refusal(file=toml) == f"config file {toml} has an unknown setting 'prot': did you mean port?"
    toml.write_text("zebra = 'red'")
    assert refusal(file=toml) == (
        f"config file {toml} has an unknown setting 'zebra': 'amqp-broker config show' lists the settings"
    )
    toml.write_text("max_message_size = 1")
    assert refusal(file=toml).endswith("'max_message_size': did you mean message_size_bytes_max?")


def test_a_table_is_refused_with_what_to_do_about_it(toml: Path) -> None:
    toml.write_text("[broker]\nport = 1")
    assert refusal(file=toml) == (
        f"config file {toml} has a table [broker], and settings stand in none: take the line [broker] out"
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("# mine\nlisteners.tcp.default = 5673", ", line 2: listeners.tcp.default is a setting of rabbitmq.conf, "
         "and a TOML file is taken: here it is called port"),
        ("ssl_options.certfile = /etc/a.pem", ", line 1: ssl_options.certfile is a setting of rabbitmq.conf, "
         "and a TOML file is taken: here it is called tls_certificate"),
        ("mqtt.exchange = amq.topic", ", line 1: mqtt.exchange is a setting of rabbitmq.conf and has no counterpart "
         "here: 'amqp-broker config show' lists the settings"),
        ("default_pass = secret # !", " is not valid TOML: line 1: default_pass is a setting of rabbitmq.conf, and a "
         "TOML file is taken: here it is called default_password"),
        ("[{rabbit, [{tcp_listeners, [5673]}]}].", " is RabbitMQ's, in Erlang's form, and a TOML file is taken: "
         "'amqp-broker config show' lists the settings"),
    ],
)  # fmt: skip
def test_a_file_of_rabbitmqs_gets_a_helpful_word(text: str, word: str, toml: Path) -> None:
    toml.write_text(text)
    assert refusal(file=toml) == f"config file {toml}{word}"


def test_a_mistake_in_a_file_is_told_in_our_words_with_its_line(toml: Path) -> None:
    toml.write_text("port = 1\nlog_level = debug  # for now")
    assert refusal(file=toml) == (
        f'config file {toml} is not valid TOML: line 2: a text stands in quotes: log_level = "debug"'
    )
    toml.write_text("port 5672\n")
    assert refusal(file=toml) == (
        f"config file {toml} is not valid TOML: line 1 is not understood: 'port 5672': write it as name = value"
    )


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"tls_key": "k.pem"}, "name a certificate with tls_certificate"),
        ({"tls_ca": "ca.pem"}, "name a certificate with tls_certificate"),
        ({"tls_client_certificate": "required"}, "name a certificate with tls_certificate"),
        ({"tls_port": "0"}, "name a certificate with tls_certificate"),
        ({"tls_version_min": "1.3"}, "name a certificate with tls_certificate"),
        ({"tls_certificate": "c.pem", "tls_ca": "ca.pem"}, "set tls_client_certificate to optional or required"),
        ({"tls_certificate": "c.pem", "tls_client_certificate": "required"}, "name a file of authorities with tls_ca"),
        ({"fsync_interval_ms": "100"}, "set fsync to interval"),
        ({"mqtt_allow_anonymous": "off"}, "MQTT is off: set mqtt_port, or protocols to mqtt"),
        ({"stomp_port": "0", "mqtt_unacknowledged_max": "5"}, "MQTT is off: set mqtt_port, or protocols to mqtt"),
        ({"web_socket_port": "0", "web_socket_tls_port": "0"}, "name a certificate with tls_certificate"),
        ({"management_tls_port": "0"}, "name a certificate with tls_certificate"),
        ({"cluster_secret": "s"}, "this node is alone: name its cluster with cluster, or leave this out"),
        ({"cluster": "etcd://h:1/c", "etcd_ca": "ca.pem"}, "TLS to etcd is off: use etcds://"),
        ({"link_certificate": "c.pem"}, "this node is alone: name its cluster with cluster, or leave this out"),
        ({"cluster": "etcd://h:1/c", "link_ca": "ca.pem"}, "name a certificate with link_certificate"),
        ({"cluster": "etcd://h:1/c", "link_certificate": "c.pem"}, "no authority is trusted: name one with link_ca"),
        ({"with_etcd": "a=10.0.0.1", "etcd_ca": "ca.pem"}, "name their certificate with etcd_certificate"),
        ({"with_etcd": "a=10.0.0.1", "etcd_certificate": "c.pem"}, "name one with etcd_ca"),
        ({"cluster": "etcd://h:1/c", "load_definitions": "d"}, "definitions by 'amqp-broker definitions import'"),
        (
            {"cluster": "etcd://h:1/c", "journal_unawaited_bytes_max": "1"},
            "in a cluster it is as if it were 0: set journal_pending_bytes_max",
        ),
        (
            {"management_port": "-1", "metrics_port": "-1", "management_host": "*"},
            "set management_port or metrics_port",
        ),
        (
            {"memory_high_water_bytes": "1000", "memory_budget_bytes": "1000"},
            "held back above 1000 bytes already: set it below memory_high_water_bytes",
        ),
        ({"consumer_timeout_ms": "0", "consumer_timeout_sweep_ms": "5"}, "is 0, which is no limit: set it as well"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused_with_what_is_missing(
    given: dict[str, str], missing: str, toml: Path
) -> None:
    name = list(given)[-1]
    said = refusal(command_line={**given})
    assert said.startswith(f"{name} (command line --{name.replace('_', '-')}) has no effect: ")
    assert said.endswith(missing)
    toml.write_text(
        "\n".join(f"{key} = {value if value.lstrip('-').isdigit() else repr(value)}" for key, value in given.items())
    )
    assert refusal(file=toml).endswith(missing)
    load({}, toml, {}, is_served=False)  # by a command that asks a broker, in the same shell


def test_a_setting_at_its_default_may_stand_there_without_effect(toml: Path) -> None:
    toml.write_text("tls_port = 5671\ntls_ca = ''\nfsync_interval_ms = 200")
    assert configuration(file=toml).settings.tls_port == 5671


@pytest.mark.parametrize("way_in", [{"mqtt_port": "0"}, {"protocols": "mqtt"}, {"web_socket_port": "0"}])
def test_settings_of_mqtt_count_wherever_mqtt_is_spoken(way_in: dict[str, str]) -> None:
    given: dict[str, str | None] = {**way_in, "mqtt_allow_anonymous": "off"}
    assert configuration(command_line=given).settings.mqtt_allow_anonymous == "off"


def test_a_wrong_value_is_refused_with_its_place_and_what_is_taken(toml: Path) -> None:
    toml.write_text("port = '5672'")
    assert refusal(file=toml) == f"port in config file {toml} takes a whole number from 0 to 65535, not '5672'"
    assert refusal(environment={"AMQP_BROKER_LOG_LEVEL": "loud"}) == (
        "AMQP_BROKER_LOG_LEVEL takes one of debug, info, warning, error, not 'loud'"
    )
    assert refusal(command_line={"port": "70000"}) == "--port takes a whole number from 0 to 65535, not '70000'"
    assert refusal(command_line={"host": ""}) == "--host takes a list of 1 or more texts, not ''"


def test_a_wrong_value_is_refused_even_where_another_one_would_win(toml: Path) -> None:
    toml.write_text("port = 'x'")
    assert "takes a whole number" in refusal(file=toml, command_line={"port": "5672"})


def test_a_wrong_password_is_not_repeated(toml: Path) -> None:
    toml.write_text("default_password = 4711")
    assert refusal(file=toml) == f"default_password in config file {toml} takes a text"


def test_a_misspelt_variable_is_refused_and_a_strange_one_is_ignored() -> None:
    assert refusal(environment={"AMQP_BROKER_DEFAULT_PASWORD": "x"}) == (
        "environment variable AMQP_BROKER_DEFAULT_PASWORD sets nothing: did you mean AMQP_BROKER_DEFAULT_PASSWORD?"
    )
    assert "did you mean AMQP_BROKER_PORT?" in refusal(environment={"AMQP_BROKER_PROT": "1"})
    strangers = ("URL", "URI", "NAME", "IMAGE", "USER", "USERNAME", "PASSWORD", "VHOST", "VERSION", "ADDRESS")
    found = configuration(environment={f"AMQP_BROKER_{name}": "x" for name in strangers})
    assert set(found.origins.values()) == {"default"}


def test_a_setting_that_stands_there_twice_is_named(toml: Path) -> None:
    toml.write_text("port = 5673\nhost = 'a'\nport = 5674\n")
    assert refusal(file=toml) == (
        f"config file {toml} is not valid TOML: line 3: port stands there twice: take one of the lines out"
    )


@pytest.mark.parametrize(
    ("line", "called"),
    [
        (
            "vm_memory_high_watermark.relative = 0.4",
            "memory_high_water_bytes (in bytes; where it is not set, ",
        ),
        ("disk_free_limit.relative = 1.0", "disk_free_limit_bytes (in bytes, no share of the memory)"),
        ("management.tcp.port = 15672", "management_port"),
        ("prometheus.tcp.port = 15692", "metrics_port"),
        ("mqtt.listeners.tcp.default = 1883", "mqtt_port"),
        ("stomp.listeners.ssl.default = 61614", "stomp_tls_port"),
        ("web_mqtt.tcp.port = 15675", "web_socket_port"),
        ("definitions.local.path = /etc/defs.json", "load_definitions"),
        ("ssl_options.versions.1 = tlsv1.3", "tls_version_min"),
        ("auth_ldap.servers.1 = ldap.example", "auth_ldap_servers"),
        ("auth_ldap.ssl_options.cacertfile = ca.pem", "auth_ldap_tls_ca"),
    ],
)
def test_lines_of_a_rabbitmq_conf_are_told_in_our_words(line: str, called: str, toml: Path) -> None:
    toml.write_text(f"{line}\n")
    assert f"here it is called {called}" in refusal(file=toml)


def test_every_counterpart_of_rabbitmqs_settings_is_one() -> None:
    assert set(RABBITMQ_KEYS.values()) <= set(DESCRIPTIONS)


def test_what_kubernetes_sets_for_a_service_of_our_name_is_not_taken_for_a_port() -> None:
    found = configuration(
        environment={
            "AMQP_BROKER_PORT": "tcp://10.0.0.7:5672",
            "AMQP_BROKER_PORT_5672_TCP_ADDR": "10.0.0.7",
            "AMQP_BROKER_SERVICE_HOST": "10.0.0.7",
        }
    )
    assert found.settings.port == 5672


def test_files_that_cannot_be_read(tmp_path: Path, toml: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert refusal(file=missing) == (
        f"config file {missing} cannot be read: No such file or directory: name another with --config"
    )
    assert refusal(file=tmp_path).startswith(f"config file {tmp_path} cannot be read: ")
    toml.write_text("port = ")
    assert refusal(file=toml).startswith(f"config file {toml} is not valid TOML: ")
    toml.write_bytes(b"product = '\xff'")
    assert refusal(file=toml).startswith(f"config file {toml} is not valid TOML: ")


def test_an_unknown_protocol_is_refused_wherever_it_is_named(toml: Path) -> None:
    toml.write_text('protocols = ["amqp"]')
    assert refusal(file=toml) == "protocols names 'amqp': there are mqtt, stomp, streams, web-sockets"
