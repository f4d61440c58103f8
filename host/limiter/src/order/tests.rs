use super::*;
use proptest::prelude::*;

fn parked(key: &str, ticket: u64) -> Parked {
    let request = crate::Request::new("s".parse().unwrap()).fairness(key, NonZeroU16::MIN).unwrap();
    let head = WaiterId { ticket, shard: 0, slot: 0 };
    let line = Arc::new(request.line(0));
    Parked { line, number: 0, head, calls: 1, cost: 1, waiters: 1, passes: 0, own: None }
}

#[test]
fn keys_that_left_ahead_are_remembered_up_to_a_bound_and_forgotten_when_the_others_are_there() {
    let mut waitlist = Waitlist::default();
    // One stays, so that the class does, and is served last of all.
    let stays = waitlist.park(parked("stays", 1), 0);
    let ahead = |waitlist: &Waitlist| waitlist.classes.values().map(|class| class.ahead.len()).sum::<usize>();
    for n in 0..MAX_REMEMBERED + 10 {
        let other = parked(&format!("k{n}"), 2 + n as u64);
        let place = waitlist.park(other.clone(), 0);
        // The later ones are further ahead: it is the first that are forgotten.
        waitlist.served(place, 2 + n as u32, 0);
        assert_eq!(waitlist.take(place).map(|taken| taken.head), Some(other.head));
        assert_eq!(ahead(&waitlist), (n + 1).min(MAX_REMEMBERED));
    }
    let class = waitlist.classes.values().next().unwrap();
    assert!(class.ahead.contains_key("k10") && !class.ahead.contains_key("k9"));
    assert_eq!(class.ahead_in_order.len(), MAX_REMEMBERED);
    // Served until it is as far as they are: nobody is ahead any more.
    waitlist.served(stays, 500, 0);
    waitlist.served(stays, 1, 0);
    assert_eq!(ahead(&waitlist), MAX_REMEMBERED + 10 - 499);
    waitlist.served(stays, 100_000, 0);
    waitlist.served(stays, 1, 0);
    assert_eq!(ahead(&waitlist), 0);
    assert!(waitlist.take(stays).is_some() && waitlist.is_empty());
    assert_eq!(waitlist.waiters, 0);
}

#[test]
fn the_least_that_anybody_needs_is_known() {
    let mut waitlist = Waitlist::default();
    assert_eq!(waitlist.least(), None);
    let needing = |key: &str, calls, cost| Parked { calls, cost, ..parked(key, u64::from(cost)) };
    let all = [needing("a", 1, 5), needing("b", 1, 3), needing("c", 1, 3), needing("d", 0, 9)];
    let mut places = Vec::new();
    let least: Vec<_> = all
        .iter()
        .map(|parked| {
            places.push(waitlist.park(parked.clone(), 0));
            waitlist.least().unwrap()
        })
        .collect();
    assert_eq!(least, [(1, 5), (1, 3), (1, 3), (0, 3)]);
    let least = places.iter().map(|place| {
        waitlist.take(*place);
        waitlist.least()
    });
    assert_eq!(least.collect::<Vec<_>>(), [Some((0, 3)), Some((0, 3)), Some((0, 9)), None]);
    assert_eq!(waitlist.riding, 0);
}

#[test]
fn who_is_passed_is_looked_at_each_time_that_it_was_so_too_often() {
    let mut waitlist = Waitlist::default();
    waitlist.park(parked("a", 1), 0);
    let looked_at = (1..=3 * MAX_PASSES).filter(|_| waitlist.passed(9, 0).is_some()).count();
    assert_eq!(looked_at, 3);
    assert!(waitlist.passed(1, 0).is_none(), "it came no later");
}

#[test]
fn a_newcomer_changes_what_is_owed_only_where_its_key_is_first() {
    let mut waitlist = Waitlist::default();
    waitlist.park(parked("a", 1), 0);
    waitlist.park(parked("b", 2), 0);
    let mut charge = |priority, key| waitlist.charge((priority, key), NonZeroU16::MIN, 1, 0);
    assert_eq!([charge(128, "b"), charge(128, "c"), charge(7, "a"), charge(128, "a")], [false, false, false, true]);
}

proptest! {
    #[test]
    fn what_is_counted_is_there_and_a_line_that_goes_on_stands_where_its_key_does(
        moves in proptest::collection::vec((0u8..8, any::<u16>(), 1u32..4, 0u64..PATIENCE / 2), 1..200)
    ) {
        let mut list = Waitlist::default();
        let mut places: Vec<u32> = Vec::new();
        let (mut now, mut ticket) = (0, 0);
        for (what, which, cost, by) in moves {
            now += by;
            ticket += 1;
            let at = usize::from(which) % places.len().max(1);
            let key = ["f", "g", "h"][usize::from(which) % 3];
            match what {
                0..=2 => {
                    let request = crate::Request::new("s".parse().unwrap()).priority(u8::from(which % 5 == 0));
                    let request = request.fairness(key, NonZeroU16::MIN).unwrap();
                    let parked = Parked { line: Arc::new(request.line(0)), waiters: 1_000, cost, ..parked("f", ticket) };
                    places.push(list.park(parked, now));
                }
                3 if !places.is_empty() => drop(list.take(places.swap_remove(at))),
                4 => drop(list.passed(ticket, now)),
                5 => _ = list.charge((u8::from(which % 2 == 0), key), NonZeroU16::MIN, cost, now),
                _ if !places.is_empty() => {
                    let place = places[at];
                    if what == 6 {
                        list.served(place, cost, now);
                    }
                    let line = Arc::clone(&list.get(place).unwrap().line);
                    let tag = |list: &Waitlist| list.classes[&Reverse(line.priority)].tag_of(&line.share);
                    let before = tag(&list);
                    list.advance(place, WaiterId { ticket, shard: 0, slot: 0 }, (1, cost));
                    prop_assert_eq!(tag(&list), before);
                }
                _ => {}
            }
            let all: Vec<&Parked> = list.in_order(now).collect();
            prop_assert_eq!(all.len(), places.len());
            prop_assert_eq!(list.len(), all.iter().map(|parked| parked.waiters).sum::<usize>());
            prop_assert_eq!(list.least(), all.iter().map(|parked| (1, parked.cost)).min());
            prop_assert_eq!(list.first_place(now), all.first().and_then(|first| list.find(first.head)));
            for class in list.classes.values() {
                let shares: BTreeMap<_, _> =
                    class.shares.iter().map(|(key, share)| (share.first().0, (Arc::clone(key), share.first().1))).collect();
                prop_assert_eq!(&class.order, &shares);
                prop_assert_eq!(class.ahead.len(), class.ahead_in_order.len());
                prop_assert!(class.ahead.values().all(|tag| *tag > class.served));
            }
        }
    }
}
