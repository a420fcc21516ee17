//! Command lines that make no sense, agents that are not there, and what `weir run` hands on.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use lb_userspace::agent::options::{InstanceName, LogFormat, LogOptions, RunOptions};
use lb_userspace::cli::{ExitKind, Io};
use serde_json::Value;

use crate::fake::{Agent, Outcome, failing, run, snapshot, weir_on};

#[test]
fn a_wrong_call_changes_nothing() {
    let agent = Agent::start(snapshot());
    for line in [
        "",
        "no-such-command",
        "service",
        "service add",
        "service add api",
        "service add api --vip 192.0.2.20",
        "service add api --vip 192.0.2.20:0",
        "service add api --vip 192.0.2.20:70000",
        "service add api --vip [2001:db8::1]:80",
        "service add API --vip 192.0.2.20:80",
        "service add -x --vip 192.0.2.20:80",
        "service add a/b --vip 192.0.2.20:80",
        "service add api --vip 192.0.2.20:80 --protocol sctp",
        "service add api --vip 192.0.2.20:80 --policy best",
        "service add api --vip 192.0.2.20:80 --source nobody",
        "service add api --vip 192.0.2.20:80 --interval 5",
        "service add api --vip 192.0.2.20:80 --interval 0s",
        "service add api --vip 192.0.2.20:80 --interval 99999999999999999999s",
        "service add api --vip 192.0.2.20:80 --interval 9999999999999999999h",
        "service add api --vip 192.0.2.20:80 --interval 1s --timeout 2s",
        "service add api --vip 192.0.2.20:80 --health off --rise 2",
        "service add api --vip 192.0.2.20:80 --protocol udp --rise 2",
        "service add api --vip 192.0.2.20:80 --rise 0",
        "service add api --vip 192.0.2.20:80 --probe-port 0",
        "service set web",
        "service set web --health off --interval 1s",
        "service set web --interval 1s",
        "service set web --no-such-option",
        "service remove",
        "service remove web dns",
        "backend add web",
        "backend add web 10.0.0.7",
        "backend add web 10.0.0.7:80 --weight 1001",
        "backend add web 10.0.0.7:80 --weight -1",
        "backend set web 10.0.0.1:8080",
        "backend drain 10.0.0.1:8080",
        "backend remove web 10.0.0.1:8080 --later",
        "detach now",
        "--instance ../etc detach",
        "--instance Edge detach",
        "--instance 123456789012345678901234567890123 detach",
        "detach -o yaml",
    ] {
        let Outcome { code, out, err } = agent.weir(line);
        assert_eq!((code, out.as_str()), (2, ""), "{line:?}: {err}");
        assert!(err.starts_with("error: ") || err.contains("Commands:"), "{line:?}: {err}");
        let json = agent.weir(&format!("{line} -o json"));
        if !line.contains("yaml") {
            let error: Value = serde_json::from_str(&json.err).unwrap();
            assert_eq!((json.code, error["error"]["code"].as_str()), (2, Some("usage")), "{line:?}");
        }
    }
    assert_eq!(agent.asked(), []);
}

#[test]
fn a_usage_error_names_the_value_and_the_way_out() {
    let agent = Agent::start(snapshot());
    for (line, expected) in [
        ("service add api --vip [::1]:80", "an IPv4 address and a port, such as 192.0.2.10:80"),
        ("service add api --vip 192.0.2.20:80 --policy best", "choose one of: maglev, round-robin, random"),
        ("service add api --vip 192.0.2.20:80 --interval 5", "write the unit too, ms, s, m or h"),
        (
            "service add api --vip 192.0.2.20:80 --interval 1s --timeout 2s",
            "timeout of 2s is above their interval of 1s",
        ),
        ("--instance Edge status", "1 to 32 lowercase letters"),
        ("statsu", "hint: a similar subcommand exists: 'status'"),
        ("service add", "hint: usage: weir service add --vip <ADDRESS:PORT> <NAME>"),
        ("service", "[subcommands: list, show, add, set, remove, help]"),
    ] {
        let outcome = agent.weir(line);
        assert!(outcome.code == 2 && outcome.err.contains(expected), "{line}: {}", outcome.err);
    }
}

#[test]
fn help_and_version_need_no_agent() {
    let nowhere = Path::new("/nonexistent/edge.sock");
    for line in ["--help", "service --help", "backend add --help", "--version", "version", "version -o json"] {
        let outcome = weir_on(nowhere, line);
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{line}");
        assert!(!outcome.out.is_empty() && !outcome.out.contains("--socket"), "{line}: {}", outcome.out);
    }
}

#[test]
fn who_says_nothing_is_shown_what_can_be_said() {
    for line in ["", "service", "backend"] {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut io = Io { out: &mut out, err: &mut err, colour: false };
        let code = run(line, &mut io, |_| Ok(()));
        assert_eq!((code, out.len()), (2, 0));
        assert!(String::from_utf8(err).unwrap().contains("Commands:"), "{line}");
    }
}

#[test]
fn an_agent_that_is_not_there_is_exit_4_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let socket: PathBuf = directory.path().join("edge.sock");
    let unreachable = |cause: &str, hint: &str| {
        for line in ["status", "service list", "backend drain web 10.0.0.1:80", "metrics", "detach"] {
            let outcome = weir_on(&socket, line);
            let path = socket.display();
            let expected = format!("error: cannot reach the agent on {path}: {cause}\nhint: {hint}\n");
            assert_eq!((outcome.code, outcome.out.as_str(), outcome.err), (4, "", expected), "{line}");
        }
        let json: Value = serde_json::from_str(&weir_on(&socket, "status -o json").err).unwrap();
        assert_eq!((&json["error"]["code"], &json["error"]["hint"]), (&"unreachable".into(), &hint.into()));
    };
    let start = "start it with: weir run --config FILE --instance edge";
    unreachable("no such file", start);
    drop(UnixListener::bind(&socket).unwrap());
    unreachable("connection refused, no agent listens on it", start);
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o000)).unwrap();
    if !nix::unistd::geteuid().is_root() {
        unreachable("permission denied", "run this as root, or as a member of the socket's group");
    }
}

#[test]
fn the_default_socket_follows_the_instance() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, colour: false };
    let code = run("--instance no-such-instance-here status", &mut io, |_| Ok(()));
    let err = String::from_utf8(err).unwrap();
    assert!(code == 4 && err.contains("/run/weir/no-such-instance-here.sock"), "{err}");
}

#[test]
fn a_server_that_is_no_agent_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("edge.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        for answer in
            ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", ""]
        {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for code in [1, 1, 4] {
        let outcome = weir_on(&socket, "status");
        assert_eq!((outcome.code, outcome.out.as_str()), (code, ""), "{}", outcome.err);
        assert!(outcome.err.contains("edge.sock"), "{}", outcome.err);
    }
    server.join().unwrap();
}

#[test]
fn run_hands_its_options_on() {
    let expected = RunOptions {
        config: "weir.toml".into(),
        instance: "edge-1".parse().unwrap(),
        state_dir: "/var/lib/weir".into(),
        socket: "/run/weir/edge-1.sock".into(),
        log: LogOptions { format: LogFormat::Text, filter: "info".into() },
    };
    let options = |line: &str| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut io = Io { out: &mut out, err: &mut err, colour: false };
        let mut seen = None;
        let code = run(line, &mut io, |options| {
            seen = Some(options);
            Ok(())
        });
        assert_eq!(code, 0, "{}", String::from_utf8(err).unwrap());
        seen.unwrap()
    };
    assert_eq!(options("run --config weir.toml --instance edge-1"), expected);
    let line = "--instance edge-1 run --config weir.toml --state-dir s --log-format json --log-level debug --socket x";
    let log = LogOptions { format: LogFormat::Json, filter: "debug".into() };
    assert_eq!(options(line), RunOptions { state_dir: "s".into(), socket: "x".into(), log, ..expected });
    assert_eq!(options("run --config c").instance, InstanceName::default());
}

#[test]
fn run_s_failures_have_their_own_exit_codes() {
    for (exit, code, name) in [
        (ExitKind::Failed, 1, "failed"),
        (ExitKind::BadConfig, 3, "bad-config"),
        (ExitKind::Unreachable, 4, "unreachable"),
        (ExitKind::HostCannot, 5, "host-cannot"),
    ] {
        let told = |line: &str| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut io = Io { out: &mut out, err: &mut err, colour: false };
            let seen = run(line, &mut io, failing(exit, "interface \"eth9\": there is none"));
            assert_eq!((seen, out.len()), (code, 0));
            String::from_utf8(err).unwrap()
        };
        assert_eq!(told("run --config c"), "error: interface \"eth9\": there is none\n");
        let error: Value = serde_json::from_str(&told("run --config c -o json")).unwrap();
        assert_eq!(error["error"]["code"], name);
    }
}
