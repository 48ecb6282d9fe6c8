//! Every state meets every event, on both sides.

use super::*;
use crate::upgrade::message::PROTOCOL;

/// The cells of a table: a header of events, then a row for each state.
fn cells(table: &str) -> Vec<(String, String, String)> {
    let mut rows = table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let rows: Vec<_> = rows.collect();
    let cell = |row: &Vec<String>| {
        assert_eq!(row.len(), header.len() + 1, "{row:?}");
        let (state, cells) = row.split_first().unwrap();
        header.iter().zip(cells).map(|(event, cell)| (state.clone(), event.clone(), cell.clone())).collect::<Vec<_>>()
    };
    rows.iter().flat_map(cell).collect()
}

// === incumbent ===

/// `k` keeps the old process, `r` as well and must resume it, `-` changes nothing.
const INCUMBENT: &str = "\
           Hello            Other Handed    Prepared         Ready           Confirmed         Sent             GaveUp Lost Malformed Exited Unable Elapsed            Leaving
Waiting    Handing/HandOver k     k         k                k               k                 k                k      k    k         k      k      k                  k
Handing    k                k     Preparing k                k               k                 k                k      k    k         k      k      k                  k
Preparing  k                k     k         Starting/Proceed k               k                 k                k      k    k         k      k      k                  k
Starting   k                k     k         k                Probation/Pause k                 k                k      k    k         k      k      k                  k
Probation  r                r     r         r                r               r                 r                r      r    r         r      r      Confirming/Confirm r
Confirming r                r     r         r                r               Committing/Commit r                r      r    r         r      r      r                  r
Committing r                r     r         r                r               r                 Committed/Retire r      r    r         r      r      r                  r
Committed  -                -     -         -                -               -                 -                -      -    -         -      -      -                  -
Kept       -                -     -         -                -               -                 -                -      -    -         -      -      -                  -";

const INCUMBENTS: [Incumbent; 9] = [
    Incumbent::Waiting,
    Incumbent::Handing,
    Incumbent::Preparing,
    Incumbent::Starting,
    Incumbent::Probation,
    Incumbent::Confirming,
    Incumbent::Committing,
    Incumbent::Committed,
    Incumbent::Kept,
];

fn incumbent_events() -> Vec<(&'static str, IncumbentEvent, &'static str)> {
    let why = || "why".to_owned();
    vec![
        ("Hello", IncumbentEvent::Hello { protocol: PROTOCOL }, "malformed"),
        ("Other", IncumbentEvent::Hello { protocol: PROTOCOL + 1 }, "malformed"),
        ("Handed", IncumbentEvent::Handed, "malformed"),
        ("Prepared", IncumbentEvent::Prepared, "malformed"),
        ("Ready", IncumbentEvent::Ready, "malformed"),
        ("Confirmed", IncumbentEvent::Confirmed, "malformed"),
        ("Sent", IncumbentEvent::Sent, "malformed"),
        ("GaveUp", IncumbentEvent::GaveUp(why()), "gave_up"),
        ("Lost", IncumbentEvent::Lost, "lost"),
        ("Malformed", IncumbentEvent::Malformed(why()), "malformed"),
        ("Exited", IncumbentEvent::Exited(why()), "exited"),
        ("Unable", IncumbentEvent::Unable(why()), "unfit"),
        ("Elapsed", IncumbentEvent::Elapsed, "hung"),
        ("Leaving", IncumbentEvent::Leaving, "leaving"),
    ]
}

fn incumbent_named(name: &str) -> Incumbent {
    *INCUMBENTS.iter().find(|state| format!("{state:?}") == name).unwrap()
}

#[test]
fn the_incumbent_has_an_answer_to_every_event_in_every_state() {
    let events = incumbent_events();
    let cells = cells(INCUMBENT);
    assert_eq!(cells.len(), INCUMBENTS.len() * events.len());
    for (state, event, cell) in cells {
        let from = incumbent_named(&state);
        let (_, event, label) = events.iter().find(|(name, ..)| *name == event).unwrap();
        let (to, action) = from.step(event.clone());
        let place = format!("{state} and {event:?}");
        match cell.as_str() {
            "-" => assert_eq!((to, action), (from, IncumbentAction::Nothing), "{place}"),
            "k" | "r" => {
                let IncumbentAction::Keep { must_resume, failure } = action else { panic!("{place}: {action:?}") };
                assert_eq!((to, must_resume), (Incumbent::Kept, cell == "r"), "{place}");
                let is_version = from == Incumbent::Waiting && matches!(event, IncumbentEvent::Hello { .. });
                assert_eq!(failure.label(), if is_version { "version" } else { label }, "{place}");
            }
            _ => {
                let (next, wanted) = cell.split_once('/').unwrap_or((&cell, "Nothing"));
                assert_eq!((to, format!("{action:?}").as_str()), (incumbent_named(next), wanted), "{place}");
            }
        }
    }
}

#[test]
fn only_a_process_that_has_paused_resumes() {
    for from in INCUMBENTS {
        for (_, event, _) in incumbent_events() {
            let (to, action) = from.step(event.clone());
            let pauses = action == IncumbentAction::Pause;
            assert_eq!(pauses, from.accepts() && !to.accepts(), "{from:?} and {event:?}");
            if let IncumbentAction::Keep { must_resume, .. } = action {
                assert_eq!(must_resume, !from.accepts(), "{from:?} and {event:?}");
                assert!(to.accepts(), "{from:?} and {event:?}");
            }
        }
    }
}

// === successor ===

/// `g` gives up, `-` changes nothing.
const SUCCESSOR: &str = "\
           Sockets        Part           Handed            Fit                    Unfit Proceed          Confirm       Commit           Refused Lost               Malformed Elapsed Leaving
Greeting   Receiving/Keep g              g                 g                      g     g                g             g                g       g                  g         g       g
Receiving  g              Receiving/Keep Preparing/Prepare g                      g     g                g             g                g       g                  g         g       g
Preparing  g              g              g                 Prepared/SayPrepared   g     g                g             g                g       Orphaned           g         g       g
Orphaned   g              g              g                 Serving/ServeAlone     g     g                g             g                g       -                  g         g       g
Prepared   g              g              g                 g                      g     Probation/Accept g             g                g       Serving/ServeAlone g         g       g
Probation  g              g              g                 g                      g     g                Proving/Prove Serving/TakeOver g       Serving/TakeOver   g         -       g
Proving    g              g              g                 Probation/SayConfirmed g     g                g             g                g       Serving/TakeOver   g         -       g
Serving    -              -              -                 -                      -     -                -             -                -       -                  -         -       -
GivenUp    -              -              -                 -                      -     -                -             -                -       -                  -         -       -";

const SUCCESSORS: [Successor; 9] = [
    Successor::Greeting,
    Successor::Receiving,
    Successor::Preparing,
    Successor::Orphaned,
    Successor::Prepared,
    Successor::Probation,
    Successor::Proving,
    Successor::Serving,
    Successor::GivenUp,
];

fn successor_events() -> Vec<(&'static str, SuccessorEvent, &'static str)> {
    let why = || "why".to_owned();
    vec![
        ("Sockets", SuccessorEvent::Sockets, "malformed"),
        ("Part", SuccessorEvent::Part, "malformed"),
        ("Handed", SuccessorEvent::Handed, "malformed"),
        ("Fit", SuccessorEvent::Fit, "malformed"),
        ("Unfit", SuccessorEvent::Unfit(why()), "unfit"),
        ("Proceed", SuccessorEvent::Proceed, "malformed"),
        ("Confirm", SuccessorEvent::Confirm, "malformed"),
        ("Commit", SuccessorEvent::Commit, "malformed"),
        ("Refused", SuccessorEvent::Refused(why()), "gave_up"),
        ("Lost", SuccessorEvent::Lost, "lost"),
        ("Malformed", SuccessorEvent::Malformed(why()), "malformed"),
        ("Elapsed", SuccessorEvent::Elapsed, "hung"),
        ("Leaving", SuccessorEvent::Leaving, "leaving"),
    ]
}

fn successor_named(name: &str) -> Successor {
    *SUCCESSORS.iter().find(|state| format!("{state:?}") == name).unwrap()
}

#[test]
fn the_successor_has_an_answer_to_every_event_in_every_state() {
    let events = successor_events();
    let cells = cells(SUCCESSOR);
    assert_eq!(cells.len(), SUCCESSORS.len() * events.len());
    for (state, event, cell) in cells {
        let from = successor_named(&state);
        let (_, event, label) = events.iter().find(|(name, ..)| *name == event).unwrap();
        let (to, action) = from.step(event.clone());
        let place = format!("{state} and {event:?}");
        match cell.as_str() {
            "-" => assert_eq!((to, action), (from, SuccessorAction::Nothing), "{place}"),
            "g" => {
                let SuccessorAction::GiveUp(failure) = action else { panic!("{place}: {action:?}") };
                assert_eq!((to, failure.label()), (Successor::GivenUp, *label), "{place}");
            }
            _ => {
                let (next, wanted) = cell.split_once('/').unwrap_or((&cell, "Nothing"));
                assert_eq!((to, format!("{action:?}").as_str()), (successor_named(next), wanted), "{place}");
            }
        }
    }
}

// === both ===

/// What the other side hears of an action.
fn heard_by_successor(action: &IncumbentAction) -> Vec<SuccessorEvent> {
    match action {
        IncumbentAction::HandOver => vec![SuccessorEvent::Sockets, SuccessorEvent::Part, SuccessorEvent::Handed],
        IncumbentAction::Proceed => vec![SuccessorEvent::Proceed],
        IncumbentAction::Confirm => vec![SuccessorEvent::Confirm],
        IncumbentAction::Commit => vec![SuccessorEvent::Commit],
        IncumbentAction::Keep { failure, .. } => vec![SuccessorEvent::Refused(failure.to_string())],
        IncumbentAction::Nothing | IncumbentAction::Pause | IncumbentAction::Retire => Vec::new(),
    }
}

fn heard_by_incumbent(action: &SuccessorAction) -> Vec<IncumbentEvent> {
    match action {
        SuccessorAction::SayPrepared => vec![IncumbentEvent::Prepared],
        SuccessorAction::Accept => vec![IncumbentEvent::Ready],
        SuccessorAction::SayConfirmed => vec![IncumbentEvent::Confirmed],
        SuccessorAction::GiveUp(failure) => vec![IncumbentEvent::GaveUp(failure.to_string())],
        _ => Vec::new(),
    }
}

/// Both sides, message by message. Before message number `broken` is heard the successor crashes. Returns where both
/// end, and asserts that at every moment at least one of them accepts.
fn converse(broken: usize) -> (Incumbent, Successor) {
    let (mut old, mut new) = (Incumbent::Waiting, Successor::Greeting);
    let mut to_old = vec![IncumbentEvent::Hello { protocol: PROTOCOL }];
    let mut to_new: Vec<SuccessorEvent> = Vec::new();
    for number in 0..100 {
        if number == broken {
            old = old.step(IncumbentEvent::Lost).0;
            return (old, Successor::GivenUp);
        }
        let accepts = matches!(new, Successor::Probation | Successor::Proving | Successor::Serving);
        assert!(old.accepts() || accepts, "nobody accepts: {old:?}, {new:?}");
        if !to_new.is_empty() {
            let (next, action) = new.step(to_new.remove(0));
            new = next;
            to_old.extend(heard_by_incumbent(&action));
            if matches!(action, SuccessorAction::Prepare | SuccessorAction::Prove) {
                to_new.push(SuccessorEvent::Fit);
            }
        } else if !to_old.is_empty() || old == Incumbent::Probation {
            let event = if to_old.is_empty() { IncumbentEvent::Elapsed } else { to_old.remove(0) };
            let (next, action) = old.step(event);
            old = next;
            to_new.extend(heard_by_successor(&action));
            match action {
                IncumbentAction::HandOver => to_old.push(IncumbentEvent::Handed),
                IncumbentAction::Commit => to_old.push(IncumbentEvent::Sent),
                _ => {}
            }
        } else {
            break;
        }
    }
    (old, new)
}

#[test]
fn undisturbed_the_successor_serves_and_the_incumbent_retires() {
    assert_eq!(converse(usize::MAX), (Incumbent::Committed, Successor::Serving));
}

#[test]
fn whenever_the_successor_crashes_before_commit_the_incumbent_accepts() {
    let ends: Vec<Incumbent> = (0..20).map(|broken| converse(broken).0).collect();
    let n_kept = ends.iter().take_while(|end| **end == Incumbent::Kept).count();
    assert!(n_kept >= 8, "{ends:?}");
    assert!(ends[n_kept..].iter().all(|end| *end == Incumbent::Committed), "{ends:?}");
}
