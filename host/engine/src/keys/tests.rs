use super::*;
use crate::{Change, Clock, EngineConfig, Precondition, RulePatch};

const LEASE: Duration = Duration::from_secs(10);

fn keyed(caller: Caller, key: usize) -> Request {
    let request = Request::new("s".parse().unwrap()).lease_time(LEASE).caller(caller);
    request.idempotency_key(&format!("k{key}")).unwrap()
}

fn now(engine: &Engine, request: Request) -> Result<TimedLease, Refusal> {
    engine.acquire_timed(request).now_or_never().expect("it does not wait")
}

/// As many keys as a caller gets, from a number on.
fn fill(engine: &Engine, caller: Caller, from: usize) -> Vec<TimedLease> {
    (from..).map_while(|key| now(engine, keyed(caller, key)).ok()).collect()
}

#[test]
fn keys_are_capped_shared_out_and_come_back() {
    let (clock, _) = Clock::manual();
    let engine = Engine::new(EngineConfig { clock, ..EngineConfig::default() });
    let (greedy, other, nobody) = (engine.caller("greedy"), engine.caller("other"), Caller::default());
    let hoard = fill(&engine, greedy, 0);
    assert_eq!(hoard.len(), MAX_KEYS / 2, "half");
    let refusal = now(&engine, keyed(greedy, MAX_KEYS)).unwrap_err();
    let cap = &refusal.blocked_on[0];
    assert_eq!(
        (refusal.reason, cap.kind, &*cap.counter),
        (Reason::Overloaded, ConstraintKind::Cap, "idempotency keys")
    );
    assert_eq!((cap.limit, cap.used), (MAX_KEYS as u64, MAX_KEYS as u64 / 2));
    assert_eq!(fill(&engine, other, 0).len(), MAX_KEYS / 4, "half of what is left");
    assert_eq!(fill(&engine, nobody, 0).len(), MAX_KEYS / 4, "nobody in particular has what there is");
    assert_eq!(now(&engine, keyed(engine.caller("third"), 0)).unwrap_err().reason, Reason::Overloaded);
    // Who repeats a request needs no room, nor who brings no key.
    assert_eq!(now(&engine, keyed(greedy, 0)).unwrap().id, hoard[0].id);
    assert!(now(&engine, Request::new("s".parse().unwrap()).caller(greedy)).is_ok());

    // A key is kept for a while after its lease has ended, and counts until then.
    for lease in &hoard {
        engine.release(lease.id, Outcome::Ok).unwrap();
    }
    engine.advance(KEPT - Duration::from_nanos(1));
    assert!(now(&engine, keyed(other, MAX_KEYS)).is_err());
    engine.advance(Duration::from_nanos(1));
    assert_eq!(fill(&engine, greedy, MAX_KEYS).len(), MAX_KEYS / 4, "half of what has come back");
    // All others end by themselves, and their keys with them.
    engine.advance(LEASE + KEPT);
    assert!(engine.keys().is_empty() && engine.keys().table.lock().by_caller.is_empty());
    assert_eq!(fill(&engine, greedy, 0).len(), MAX_KEYS / 2);
}

#[test]
fn who_waits_has_a_key_and_who_leaves_or_is_refused_has_none() {
    let (clock, _) = Clock::manual();
    let engine = Engine::new(EngineConfig { clock, ..EngineConfig::default() });
    let patch = RulePatch { concurrency: Some(Some("0".parse().unwrap())), ..RulePatch::default() };
    engine.apply(&[Change::Patch { pattern: "s".parse().unwrap(), patch, when: Precondition::None }]).unwrap();
    let caller = engine.caller("one");
    let wait = |key: usize| {
        let mut future = engine.acquire_timed(keyed(caller, key));
        (&mut future).now_or_never().is_none().then_some(future)
    };
    for _ in 0..3 {
        let mut waiting: Vec<AcquireTimed> = (0..).map_while(wait).collect();
        assert_eq!(waiting.len(), MAX_KEYS / 2);
        waiting.truncate(10);
        waiting.extend((MAX_KEYS..).map_while(wait));
        assert_eq!(waiting.len(), MAX_KEYS / 2, "those of who has left are free");
        drop(waiting);
        for key in 0..2 * MAX_KEYS {
            let refusal = now(&engine, keyed(caller, key).max_wait(Duration::ZERO)).unwrap_err();
            assert_eq!(refusal.reason, Reason::Limited, "a refusal keeps no key");
        }
        assert!(engine.keys().is_empty());
    }
}
