//! The gateway as a service of systemd: what it says to the service manager, and the unit that is shipped.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use tests::gateway::{Addresses, binary};
use tests::handoff::Place;
use tests::{Gateway, Manifests, wait};
use tokio::net::UnixDatagram;

/// The next message, as sd_notify(3) has it: one assignment.
async fn said(socket: &UnixDatagram) -> String {
    let mut message = [0; 256];
    let length = tokio::time::timeout(wait::LIMIT, socket.recv(&mut message)).await.unwrap().unwrap();
    std::str::from_utf8(&message[..length]).unwrap().trim_end().to_owned()
}

#[tokio::test]
async fn a_service_manager_hears_who_the_main_process_is() {
    let (place, manifests) = (Place::new(), Manifests::new());
    let path = place.socket().with_file_name("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let flags = [place.flag(), "--handoff-probation=50ms".to_owned()];
    let flags = flags.each_ref().map(String::as_str);
    let gateway = Gateway::spawn_with_environment(&environment, Addresses::reserve(), manifests.path(), &flags);
    assert_eq!(said(&socket).await, "READY=1");
    gateway.wait_until_ready().await;
    place.wait_until_taken().await;
    let failed = place.upgrade(Some(Path::new("/bin/false"))).await;
    assert_eq!(failed.status.code(), Some(1));
    let upgraded = place.upgrade(None).await;
    assert_eq!(upgraded.status.code(), Some(0), "{}", String::from_utf8_lossy(&upgraded.stderr));
    let successor = place.pid().await;
    // Two processes speak here, and the failed upgrade had nothing to say.
    let mut both = [said(&socket).await, said(&socket).await];
    both.sort_unstable();
    assert_eq!(both, [format!("MAINPID={successor}"), "READY=1".to_owned()]);
    // The old one is not the main one any more: its end is not worth a word.
    assert_eq!(gateway.wait_for_exit().await.code(), Some(0));
    kill_process(Pid::from_raw(i32::try_from(successor).unwrap()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(said(&socket).await, "STOPPING=1");
}

/// `systemd-analyze` is part of systemd, which a machine that only builds may lack.
#[test]
fn the_unit_is_one_that_systemd_takes() {
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).output();
    if analyze(&["--version"]).is_err() {
        eprintln!("there is no systemd-analyze: the unit is not checked");
        return;
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/systemd/penstock.service");
    let text = std::fs::read_to_string(shipped).unwrap();
    assert!(text.contains("/usr/bin/gateway"), "{text}");
    // The program must be there for the unit to be complete.
    let complete = text.replace("/usr/bin/gateway", binary().to_str().unwrap());
    let complaints = |text: &str| {
        let directory = Manifests::new();
        directory.write("penstock.service", text);
        let verified = analyze(&["verify", "--man=no", directory.file("penstock.service").to_str().unwrap()]).unwrap();
        // It looks at units of the machine too, which are not ours.
        let lines = String::from_utf8_lossy(&verified.stderr).into_owned();
        lines.lines().filter(|line| line.contains("penstock.service")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complaints(&complete), Vec::<String>::new());
    let misspelt = complete.replace("NoNewPrivileges=", "NoNewPrivilege=");
    assert_ne!(complaints(&misspelt), Vec::<String>::new(), "a mistake is seen");
}

/// What the unit sets by environment variables and flags, the program understands.
#[tokio::test]
async fn the_unit_starts_and_upgrades_by_its_environment_alone() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/systemd/penstock.service");
    let text = std::fs::read_to_string(shipped).unwrap();
    let (place, manifests) = (Place::new(), Manifests::new());
    let socket = place.socket().with_file_name("penstock").join("handoff");
    std::fs::create_dir(socket.parent().unwrap()).unwrap();
    let root = socket.parent().unwrap().parent().unwrap().to_str().unwrap().to_owned();
    std::fs::create_dir_all(format!("{root}/penstock/manifests")).unwrap();
    let assignments = text.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    let environment: Vec<(String, String)> =
        assignments.map(|(name, value)| (name.to_owned(), value.replace("%t", &root).replace("%E", &root))).collect();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let lines = |name: &str| text.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>().join(" ");
    assert_eq!(lines("ExecStart="), "ExecStart=/usr/bin/gateway run");
    assert_eq!(lines("ExecReload="), "ExecReload=/usr/bin/gateway upgrade");
    let all = [&environment[..], &[("PENSTOCK_HANDOFF_PROBATION", "50ms")]].concat();
    let gateway = Gateway::spawn_with_environment(&all, Addresses::reserve(), manifests.path(), &[]);
    gateway.wait_until_ready().await;
    wait::until("the hand-over socket is there", async || socket.exists().then_some(())).await;
    let upgraded = tokio::task::spawn_blocking({
        let path = socket.to_str().unwrap().to_owned();
        move || tests::gateway::command_with(&["upgrade"], &[("PENSTOCK_HANDOFF_SOCKET", &path)])
    });
    let upgraded = upgraded.await.unwrap();
    assert_eq!(upgraded.status.code(), Some(0), "{}", String::from_utf8_lossy(&upgraded.stderr));
    assert_eq!(gateway.wait_for_exit().await.code(), Some(0));
}
