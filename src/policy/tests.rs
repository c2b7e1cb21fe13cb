use super::*;
use crate::types::Rng;
use proptest::prelude::*;

#[test]
fn numbers_names_and_rows_agree() {
    for (index, policy_type) in PolicyType::all().enumerate() {
        assert_eq!(policy_type as usize, index);
        assert_eq!(PolicyType::from_number(policy_type.number()), Some(policy_type));
        assert_eq!(PolicyType::from_name(policy_type.name()), Some(policy_type));
        assert!(policy_type.words() <= Policy::MAX_WORDS);
    }
    assert!(TABLE.is_sorted_by_key(|row| row.number));
}

#[test]
fn reserved_and_unknown_numbers_are_no_policy() {
    for number in [0, 6, 0x3fff_ffff, 0x4000_0000, 0x4000_0005, 0x8000_0000, 0xb000_2004, u32::MAX] {
        assert_eq!(PolicyType::from_number(number), None);
    }
    assert_eq!(PolicyType::from_name("roundrobin"), None);
}

#[test]
fn bit_30_of_the_number_says_adaptive_in_the_nine() {
    for policy_type in PolicyType::all().take(9) {
        let adaptive = Policy::new(policy_type, &[]).load().is_some();
        assert_eq!(policy_type.number() & 0x4000_0000 != 0, adaptive, "{policy_type:?}");
    }
}

#[test]
fn words_have_their_meaning() {
    let lud = Policy::new(PolicyType::LeastUsedDegradation, &[7, 8, 9]);
    assert_eq!((lud.words(), lud.load(), lud.degradation()), (&[7, 8][..], Some(Load(7)), Some(Load(8))));
    assert_eq!(lud.weight(), None);
    assert_eq!(Policy::new(PolicyType::Priority, &[5]).weight(), Some(5));
    assert_eq!(Policy::new(PolicyType::WeightedRandom, &[]).weight(), Some(0));
    assert_eq!(Policy::new(PolicyType::LeastUsedDegradationDpf, &[1, 2, 3, 4]).words(), [1, 2, 3, 4]);
    assert_eq!((Policy::ROUND_ROBIN.words(), Policy::ROUND_ROBIN.load()), (&[][..], None));
}

/// A registrar's selector of elements 0, 1, 2 ... with these values.
fn pool(policy_type: PolicyType, values: &[&[u32]]) -> Selector {
    fill(Selector::new(policy_type), policy_type, values)
}

fn fill(mut selector: Selector, policy_type: PolicyType, values: &[&[u32]]) -> Selector {
    for (slot, words) in values.iter().enumerate() {
        selector.set(slot as u32, &Policy::new(policy_type, words));
    }
    selector
}

/// An answer of `items`; those asked for in a row are to come from one generator where draws matter.
fn answer(selector: &mut Selector, items: usize) -> Vec<u32> {
    let mut out = vec![99];
    selector.select(items, &mut Rng::new(0), &mut out);
    assert_eq!(out.remove(0), 99, "appends");
    out
}

/// The answers to so many requests for one element.
fn heads(selector: &mut Selector, requests: usize) -> Vec<u32> {
    (0..requests).flat_map(|_| answer(selector, 1)).collect()
}

fn answers(selector: &mut Selector, items: usize, requests: usize) -> Vec<Vec<u32>> {
    (0..requests).map(|_| answer(selector, items)).collect()
}

const HALF: u32 = 0x8000_0000;

#[test]
fn round_robin_advances_its_head_by_one_a_request() {
    let mut three = pool(PolicyType::RoundRobin, &[&[], &[], &[]]);
    assert_eq!(heads(&mut three.clone(), 7), [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(answers(&mut three.clone(), 2, 4), [[0, 1], [1, 2], [2, 0], [0, 1]]);
    assert_eq!(answers(&mut three, 5, 4), [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
}

#[test]
fn round_robin_puts_newcomers_last_and_keeps_turns_through_re_registration() {
    let mut pool = pool(PolicyType::RoundRobin, &[&[], &[], &[]]);
    assert_eq!(heads(&mut pool, 1), [0]);
    pool.set(3, &Policy::ROUND_ROBIN);
    pool.set(1, &Policy::ROUND_ROBIN);
    assert_eq!(answer(&mut pool, 9), [1, 2, 0, 3]);
    pool.remove(2);
    assert_eq!(answer(&mut pool, 9), [0, 3, 1]);
    pool.set(2, &Policy::ROUND_ROBIN);
    assert_eq!(answer(&mut pool, 9), [3, 1, 0, 2]);
}

#[test]
fn weighted_round_robin_occurs_as_often_as_weights_say_and_evenly() {
    let wrr = PolicyType::WeightedRoundRobin;
    assert_eq!(heads(&mut pool(wrr, &[&[1], &[2], &[3]]), 12), [0, 2, 1, 2, 2, 1, 0, 2, 1, 2, 2, 1]);
    assert_eq!(heads(&mut pool(wrr, &[&[1], &[4]]), 10), [0, 1, 1, 1, 1, 0, 1, 1, 1, 1]);
    assert_eq!(heads(&mut pool(wrr, &[&[1], &[1], &[2]]), 8), [0, 2, 1, 2, 0, 2, 1, 2]);
    assert_eq!(heads(&mut pool(wrr, &[&[4], &[2], &[2]]), 8), [0, 2, 0, 1, 0, 2, 0, 1]);
    let mut largest = pool(wrr, &[&[u32::MAX], &[u32::MAX], &[1]]);
    largest.select(1, &mut Rng::new(0), &mut Vec::new());
    assert_eq!(heads(&mut largest, 6), [1, 0, 1, 0, 1, 0]);
}

#[test]
fn weighted_round_robin_puts_many_light_elements_between_the_entries_of_a_heavy_one() {
    let mut weights = vec![&[1][..]; 100];
    weights.push(&[100]);
    let run = heads(&mut pool(PolicyType::WeightedRoundRobin, &weights), 400);
    let longest = |heavy: bool| {
        run.chunk_by(|a, b| (*a == 100) == (*b == 100))
            .filter(|part| (part[0] == 100) == heavy)
            .map(<[u32]>::len)
            .max()
    };
    assert_eq!(run.iter().filter(|slot| **slot == 100).count(), 200);
    assert!(longest(true) <= Some(3) && longest(false) <= Some(3), "{run:?}");
}

#[test]
fn weighted_round_robin_with_equal_weights_is_round_robin() {
    for weight in [1, 7, u32::MAX] {
        let mut five = pool(PolicyType::WeightedRoundRobin, &[&[weight][..]; 5]);
        let mut ring = answer(&mut five, 5);
        for items in [1, 2, 5, 1, 9, 3, 1, 1, 1] {
            ring.rotate_left(1);
            assert_eq!(answer(&mut five, items), ring[..items.min(5)]);
            five.set(2, &Policy::new(PolicyType::WeightedRoundRobin, &[weight]));
        }
    }
}

#[test]
fn weighted_round_robin_starts_a_changed_element_where_the_list_stands() {
    let wrr = PolicyType::WeightedRoundRobin;
    let mut two = pool(wrr, &[&[1], &[1]]);
    assert_eq!(heads(&mut two, 1000), [0, 1].repeat(500));
    two.set(2, &Policy::new(wrr, &[2]));
    assert_eq!(heads(&mut two, 8), [0, 2, 1, 2, 0, 2, 1, 2], "it does not catch up");
    two.set(2, &Policy::new(wrr, &[1]));
    assert_eq!(heads(&mut two, 6), [0, 2, 1, 0, 2, 1]);
}

#[test]
fn priority_lists_in_decreasing_order_and_takes_turns_among_equals() {
    let mut three = pool(PolicyType::Priority, &[&[1], &[2], &[2]]);
    assert_eq!(heads(&mut three.clone(), 4), [1, 2, 1, 2]);
    assert_eq!(answers(&mut three, 3, 3), [[1, 2, 0], [2, 1, 0], [1, 2, 0]]);
    three.set(0, &Policy::new(PolicyType::Priority, &[u32::MAX]));
    three.set(1, &Policy::new(PolicyType::Priority, &[0]));
    assert_eq!(answers(&mut three, 3, 2), [[0, 2, 1], [0, 2, 1]]);
}

#[test]
fn least_used_lists_by_ascending_load_and_takes_turns_among_equals() {
    let mut three = pool(PolicyType::LeastUsed, &[&[0x10], &[0x10], &[0x20]]);
    assert_eq!(heads(&mut three.clone(), 4), [0, 1, 0, 1]);
    assert_eq!(answers(&mut three.clone(), 3, 2), [[0, 1, 2], [1, 0, 2]]);
    three.set(2, &Policy::new(PolicyType::LeastUsed, &[0]));
    three.set(0, &Policy::new(PolicyType::LeastUsed, &[u32::MAX]));
    assert_eq!(answer(&mut three, 3), [2, 1, 0]);
    let mut backups = pool(PolicyType::LeastUsed, &[&[1], &[5], &[5]]);
    assert_eq!(answers(&mut backups, 2, 3), [[0, 1], [0, 2], [0, 1]], "also among those listed behind");
}

#[test]
fn least_used_with_degradation_counts_every_element_it_returns() {
    const D: u32 = 1 << 20;
    let lud = PolicyType::LeastUsedDegradation;
    // Idle, each loaded more than the one before by an association: 0, 0, 0 | D | D 2D | D 2D 4D ...
    let mut three = pool(lud, &[&[0, D], &[0, 2 * D], &[0, 4 * D]]);
    assert_eq!(heads(&mut three, 10), [0, 1, 2, 0, 1, 0, 0, 2, 1, 0]);
    // Against a constant load of 6 D the counter starts at 0 and goes up by one.
    let mut two = pool(lud, &[&[0, D], &[6 * D + 1, 0]]);
    assert_eq!(heads(&mut two, 9), [0, 0, 0, 0, 0, 0, 0, 1, 1]);
    two.set(0, &Policy::new(lud, &[0, D]));
    assert_eq!(heads(&mut two, 8), [0, 0, 0, 0, 0, 0, 0, 1], "a re-registration sets it to 0");
    // Those listed second count as well.
    let mut listed = pool(lud, &[&[0, D], &[1, 5 * D], &[3 * D, 0]]);
    assert_eq!(answers(&mut listed, 2, 5), [[0, 1], [0, 2], [0, 2], [0, 2], [2, 0]]);
}

#[test]
fn least_used_with_degradation_takes_turns_among_equals() {
    let mut three = pool(PolicyType::LeastUsedDegradation, &[&[0, 1], &[0, 1], &[0, 1]]);
    assert_eq!(heads(&mut three.clone(), 6), [0, 1, 2, 0, 1, 2]);
    assert_eq!(answers(&mut three, 3, 3), [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
}

#[test]
fn priority_least_used_lists_by_load_after_one_more_association() {
    const D: u32 = 0x1000;
    let plu = PolicyType::PriorityLeastUsed;
    let mut three = pool(plu, &[&[0, 3 * D], &[D, D], &[0, 4 * D]]);
    assert_eq!(heads(&mut three.clone(), 4), [1; 4]);
    assert_eq!(answers(&mut three, 3, 2), [[1, 0, 2], [1, 0, 2]]);
    // The example of RFC 5356 5.3.1: 50 + 10 is less than 50 + 50.
    assert_eq!(heads(&mut pool(plu, &[&[50, 50], &[50, 10]]), 2), [1, 1]);
    assert_eq!(heads(&mut pool(plu, &[&[1, 2], &[2, 1], &[3, 1]]), 4), [0, 1, 0, 1]);
}

#[test]
fn loads_add_up_beyond_32_bits() {
    let max = u32::MAX;
    let mut plu = pool(PolicyType::PriorityLeastUsed, &[&[max, max], &[max, max - 1], &[max, 0]]);
    assert_eq!(answer(&mut plu, 3), [2, 1, 0]);
    let mut lud = pool(PolicyType::LeastUsedDegradation, &[&[max, max], &[max, max / 2]]);
    let picks = heads(&mut lud, 30_000);
    assert_eq!(picks.iter().filter(|slot| **slot == 0).count(), 10_000, "a third, as degradation says");
}

#[test]
fn one_element_is_every_answer() {
    for policy_type in PolicyType::all() {
        for words in [[0; 4], [1; 4], [u32::MAX; 4]] {
            let mut one = pool(policy_type, &[&words]);
            assert_eq!(answers(&mut one, 1, 3), [[0], [0], [0]], "{policy_type:?}");
            assert_eq!(answer(&mut one, 7), [0]);
            one.remove(0);
            assert!(one.is_empty() && answer(&mut one, 1).is_empty());
        }
    }
}

#[test]
fn asking_for_none_selects_none_and_changes_nothing() {
    for policy_type in PolicyType::all() {
        let mut three = pool(policy_type, &[&[1, 1], &[1, 1], &[1, 1]]);
        let mut untouched = three.clone();
        assert!(answer(&mut three, 0).is_empty());
        assert_eq!(answers(&mut three, 2, 5), answers(&mut untouched, 2, 5), "{policy_type:?}");
        assert!(answer(&mut Selector::new(policy_type), 3).is_empty());
    }
}

#[test]
fn asking_for_more_than_there_are_lists_each_once() {
    for policy_type in PolicyType::all() {
        let mut many = pool(policy_type, &[&[5, 1][..]; 37]);
        for request in 0..3 {
            let mut listed = answer(&mut many, 1000);
            listed.sort_unstable();
            assert!(listed.into_iter().eq(0..37), "{policy_type:?} {request}");
        }
    }
}

#[test]
fn elements_of_weight_0_are_selected_only_when_there_is_no_other() {
    for policy_type in [PolicyType::WeightedRoundRobin, PolicyType::WeightedRandom] {
        let mut pool = pool(policy_type, &[&[0], &[3], &[0], &[1]]);
        let mut rng = Rng::new(5);
        for _ in 0..200 {
            let mut out = Vec::new();
            pool.select(4, &mut rng, &mut out);
            out.sort_unstable();
            assert_eq!(out, [1, 3], "{policy_type:?}");
        }
        pool.remove(1);
        pool.set(3, &Policy::new(policy_type, &[0]));
        let mut seen = [0; 4];
        for _ in 0..300 {
            let mut out = Vec::new();
            pool.select(1, &mut rng, &mut out);
            seen[out[0] as usize] += 1;
        }
        assert!(seen[0] > 50 && seen[1] == 0 && seen[2] > 50 && seen[3] > 50, "{policy_type:?} {seen:?}");
        pool.set(0, &Policy::new(policy_type, &[1]));
        assert_eq!(answer(&mut pool, 4), [0]);
    }
    let mut loaded = pool(PolicyType::RandomizedLeastUsed, &[&[u32::MAX], &[u32::MAX - 1], &[u32::MAX]]);
    assert_eq!(answers(&mut loaded, 3, 50), vec![[1]; 50]);
    loaded.remove(1);
    assert_eq!(answer(&mut loaded, 3).len(), 2);
}

#[test]
fn weight_0_in_the_middle_of_weighted_round_robin_gives_the_turns_to_the_others() {
    let wrr = PolicyType::WeightedRoundRobin;
    let mut pool = pool(wrr, &[&[1], &[1], &[1]]);
    assert_eq!(heads(&mut pool, 4), [0, 2, 1, 0]);
    pool.set(1, &Policy::new(wrr, &[0]));
    assert_eq!(heads(&mut pool, 4), [2, 0, 2, 0]);
    pool.set(1, &Policy::new(wrr, &[1]));
    assert_eq!(answer(&mut pool, 3).len(), 3);
    let mut twelve = heads(&mut pool, 12);
    twelve.sort_unstable();
    assert_eq!(twelve, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
}

/// Pearson's statistic, in thousandths.
fn chi_square(seen: &[u32], shares: &[u64]) -> u128 {
    let draws: u128 = seen.iter().map(|seen| u128::from(*seen)).sum();
    let all = u128::from(shares.iter().sum::<u64>());
    let square = |(seen, share): (&u32, &u64)| {
        let (seen, expected) = (u128::from(*seen) * all, draws * u128::from(*share));
        1000 * seen.abs_diff(expected).pow(2) / (expected * all)
    };
    seen.iter().zip(shares).map(square).sum()
}

/// Its value exceeded by chance once in a thousand times, for 2, 3, 5 degrees of freedom.
const CHI_SQUARE_2: u128 = 13_800;
const CHI_SQUARE_3: u128 = 16_300;
const CHI_SQUARE_5: u128 = 20_500;

fn draw(selector: &mut Selector, items: usize, draws: usize) -> Vec<Vec<u32>> {
    let mut rng = Rng::new(2008);
    let mut draw = || {
        let mut out = Vec::new();
        selector.select(items, &mut rng, &mut out);
        out
    };
    (0..draws).map(|_| draw()).collect()
}

fn first_seen<const N: usize>(draws: &[Vec<u32>]) -> [u32; N] {
    let mut seen = [0; N];
    for drawn in draws {
        seen[drawn[0] as usize] += 1;
    }
    seen
}

#[test]
fn random_selects_each_as_often() {
    let mut four = pool(PolicyType::Random, &[&[], &[], &[], &[]]);
    let seen: [u32; 4] = first_seen(&draw(&mut four, 1, 40_000));
    assert!(chi_square(&seen, &[1; 4]) < CHI_SQUARE_3, "{seen:?}");
    assert!(chi_square(&seen, &[10, 10, 10, 11]) > CHI_SQUARE_3, "the bound is of use");
}

#[test]
fn weighted_random_selects_in_proportion_to_weight() {
    let mut three = pool(PolicyType::WeightedRandom, &[&[1], &[2], &[3]]);
    let seen: [u32; 3] = first_seen(&draw(&mut three, 1, 60_000));
    assert!(chi_square(&seen, &[1, 2, 3]) < CHI_SQUARE_2, "{seen:?}");
    let mut heavy = pool(PolicyType::WeightedRandom, &[&[u32::MAX], &[u32::MAX / 3], &[u32::MAX]]);
    let seen: [u32; 3] = first_seen(&draw(&mut heavy, 1, 60_000));
    assert!(chi_square(&seen, &[3, 1, 3]) < CHI_SQUARE_2, "{seen:?}");
}

#[test]
fn weighted_random_draws_the_rest_of_a_list_by_the_weights_left() {
    let weights = [1, 2, 5];
    let mut three = pool(PolicyType::WeightedRandom, &[&[1], &[2], &[5]]);
    let (mut orders, mut shares, mut seen) = (Vec::new(), Vec::new(), [0; 6]);
    for first in 0..3 {
        for second in (0..3).filter(|second| *second != first) {
            orders.push((first as u32, second as u32));
            // In parts of 8 * 42, where 42 is a multiple of what each first one leaves.
            shares.push(weights[first] * weights[second] * 42 / (8 - weights[first]));
        }
    }
    for drawn in draw(&mut three, 2, 60_000) {
        seen[orders.iter().position(|order| *order == (drawn[0], drawn[1])).unwrap()] += 1;
    }
    assert!(chi_square(&seen, &shares) < CHI_SQUARE_5, "{seen:?}");
}

#[test]
fn randomized_least_used_selects_in_proportion_to_what_the_load_leaves() {
    let mut four = pool(PolicyType::RandomizedLeastUsed, &[&[0], &[HALF], &[HALF + HALF / 2], &[u32::MAX]]);
    let seen: [u32; 4] = first_seen(&draw(&mut four, 1, 60_000));
    assert_eq!(seen[3], 0);
    assert!(chi_square(&seen[..3], &[4, 2, 1]) < CHI_SQUARE_2, "{seen:?}");
    four.set(0, &Policy::new(PolicyType::RandomizedLeastUsed, &[HALF]));
    four.remove(2);
    let seen: [u32; 2] = first_seen(&draw(&mut four, 1, 10_000));
    assert!(chi_square(&seen, &[1, 1]) < CHI_SQUARE_2, "{seen:?}");
}

#[test]
fn a_lottery_with_ineligible_elements_is_one_without_them() {
    let mut five = pool(PolicyType::WeightedRandom, &[&[1], &[900], &[2], &[900], &[3]]);
    let mut rng = Rng::new(1);
    let mut seen = [0; 3];
    for _ in 0..30_000 {
        let mut out = Vec::new();
        five.select_among(1, &mut rng, |slot| slot % 2 == 0, &mut out);
        seen[out[0] as usize / 2] += 1;
    }
    assert!(chi_square(&seen, &[1, 2, 3]) < CHI_SQUARE_2, "{seen:?}");
    let seen: [u32; 5] = first_seen(&draw(&mut five, 1, 30_000));
    assert!(seen[1] > 14_000 && seen[3] > 14_000, "they are back: {seen:?}");
}

#[test]
fn an_element_passed_over_in_weighted_round_robin_does_not_catch_up() {
    let mut two = pool(PolicyType::WeightedRoundRobin, &[&[1], &[1], &[1]]);
    for _ in 0..100 {
        let mut out = Vec::new();
        two.select_among(1, &mut Rng::new(0), |slot| slot != 1, &mut out);
        assert_ne!(out, [1]);
    }
    let run = heads(&mut two, 7);
    assert_eq!(run.iter().filter(|slot| **slot == 1).count(), 3, "{run:?}");
}

#[test]
fn users_take_round_robins_from_the_first_told() {
    for policy_type in [PolicyType::RoundRobin, PolicyType::WeightedRoundRobin] {
        let mut told = fill(Selector::for_user(policy_type), policy_type, &[&[1], &[9], &[5]]);
        assert_eq!(heads(&mut told, 7), [0, 1, 2, 0, 1, 2, 0], "{policy_type:?}");
    }
}

#[test]
fn users_take_random_elements_of_those_told() {
    for (policy_type, values) in [
        (PolicyType::Random, &[&[][..], &[], &[]]),
        (PolicyType::WeightedRandom, &[&[1][..], &[1], &[1]]),
        (PolicyType::RandomizedLeastUsed, &[&[HALF][..], &[HALF], &[HALF]]),
    ] {
        let mut told = fill(Selector::for_user(policy_type), policy_type, values);
        let seen: [u32; 3] = first_seen(&draw(&mut told, 1, 30_000));
        assert!(chi_square(&seen, &[1; 3]) < CHI_SQUARE_2, "{policy_type:?} {seen:?}");
    }
}

#[test]
fn users_take_the_highest_priority_of_those_told() {
    let mut told =
        fill(Selector::for_user(PolicyType::Priority), PolicyType::Priority, &[&[3], &[9], &[9], &[1]]);
    assert_eq!(answers(&mut told, 4, 2), [[1, 2, 0, 3], [2, 1, 0, 3]]);
    told.remove(1);
    told.remove(2);
    assert_eq!(heads(&mut told, 3), [0, 0, 0], "the highest of those active");
}

#[test]
fn users_take_least_used_elements_in_the_order_told() {
    for (policy_type, values) in [
        (PolicyType::LeastUsed, &[&[1][..], &[3], &[9]]),
        (PolicyType::PriorityLeastUsed, &[&[3, 1][..], &[1, 4], &[0, 9]]),
    ] {
        let mut told = fill(Selector::for_user(policy_type), policy_type, values);
        assert_eq!(answers(&mut told, 3, 3), vec![[0, 1, 2]; 3], "{policy_type:?}");
        told.remove(0);
        assert_eq!(heads(&mut told, 2), [1, 1]);
    }
}

#[test]
fn users_take_degrading_elements_in_the_order_told_and_count_what_they_take() {
    let lud = PolicyType::LeastUsedDegradation;
    // The registrar has selected element 1 more often than its load shows.
    let mut told = fill(Selector::for_user(lud), lud, &[&[50, 10], &[0, 10], &[70, 10]]);
    assert_eq!(answer(&mut told.clone(), 3), [0, 1, 2]);
    assert_eq!(heads(&mut told, 7), [0, 1, 0, 1, 2, 0, 1]);
    told.set(2, &Policy::new(lud, &[5, 10]));
    assert_eq!(heads(&mut told, 2), [2, 2], "news of one already told stands as it is");
}

/// A per cent of the load scale.
const PERCENT: u32 = u32::MAX / 100;

/// How often each of three is drawn in a row, the values set anew before each if `anew`.
fn drawn(policy_type: PolicyType, values: &[&[u32]; 3], draws: usize, anew: bool) -> [usize; 3] {
    let (mut rng, mut selector) = (Rng::new(7), pool(policy_type, values));
    let mut counts = [0; 3];
    for _ in 0..draws {
        if anew {
            selector = pool(policy_type, values);
        }
        let mut out = Vec::new();
        selector.select(1, &mut rng, &mut out);
        counts[out[0] as usize] += 1;
    }
    counts
}

#[test]
fn private_lotteries_draw_by_what_load_and_degradation_leave() {
    let near = |count: usize, share: usize| count.abs_diff(share) < 150;
    // 1 - (load + degradation): 60, 30 and 10 per cent.
    let values: [&[u32]; 3] =
        [&[30 * PERCENT, 10 * PERCENT], &[70 * PERCENT, 0], &[80 * PERCENT, 10 * PERCENT]];
    let [a, b, c] = drawn(PolicyType::RandomizedPriorityLeastUsed, &values, 3_000, false);
    assert!(near(a, 1_800) && near(b, 900) && near(c, 300), "{a} {b} {c}");
    // As the first is set it has one step of degradation against it, and two more a selection.
    let [a, b, c] = drawn(PolicyType::RandomizedLeastUsedDegradation, &values, 3_000, true);
    assert!(near(a, 1_800) && near(b, 900) && near(c, 300), "{a} {b} {c}");
    // With priority one more: 50, 30 and 0 of 80.
    let [a, b, c] = drawn(PolicyType::RandomizedPriorityLeastUsedDegradation, &values, 3_200, true);
    assert!(near(a, 2_000) && near(b, 1_200) && c == 0, "{a} {b} {c}");
    // Worn out after three (60, 40, 20 and then nothing): the second alone is left.
    let mut worn = pool(
        PolicyType::RandomizedLeastUsedDegradation,
        &[&[30 * PERCENT, 10 * PERCENT], &[70 * PERCENT, 0]],
    );
    let (mut rng, mut out) = (Rng::new(1), Vec::new());
    for _ in 0..200 {
        worn.select(1, &mut rng, &mut out);
    }
    assert_eq!(out.iter().filter(|slot| **slot == 0).count(), 3);
}

#[test]
fn private_orders_degrade_by_two_steps_a_selection_from_one() {
    // 6 D against a constant load: chosen three times before.
    let plud = PolicyType::PriorityLeastUsedDegradation;
    assert_eq!(heads(&mut pool(plud, &[&[0, 10], &[65, 0]]), 4), [0, 0, 0, 1]);
    let dpf = PolicyType::LeastUsedDegradationDpf;
    assert_eq!(heads(&mut pool(dpf, &[&[0, 10, 0, 0], &[60, 0, 0, 0]]), 4), [0, 0, 0, 1]);
}

#[test]
fn distance_costs_by_the_delay_penalty_factor() {
    let lu = PolicyType::LeastUsedDpf;
    assert_eq!(heads(&mut pool(lu, &[&[50, 3, 10], &[70, 3, 0], &[70, 3, 0]]), 3), [1, 2, 1]);
    assert_eq!(heads(&mut pool(lu, &[&[50, 3, 1], &[70, 3, 0]]), 2), [0, 0]);
    let far = [&[100, PERCENT, 50][..], &[100, PERCENT, 0], &[1, PERCENT, 1_000_000]];
    let [a, b, c] = drawn(PolicyType::WeightedRandomDpf, &far, 1_500, false);
    assert!(a.abs_diff(500) < 100 && b.abs_diff(1_000) < 100 && c < 30, "{a} {b} {c}");
}

/// With work linear in the size of the pool these would be 10^11 steps.
#[test]
fn a_million_elements_do_not_make_a_request_slow() {
    for policy_type in
        [PolicyType::WeightedRoundRobin, PolicyType::LeastUsedDegradation, PolicyType::WeightedRandom]
    {
        let mut pool = Selector::new(policy_type);
        for slot in 0..1_000_000 {
            pool.set(slot, &Policy::new(policy_type, &[slot % 1000 + 1, 3]));
        }
        let mut rng = Rng::new(3);
        let mut out = Vec::new();
        for request in 0..20_000 {
            out.clear();
            pool.select(5, &mut rng, &mut out);
            assert_eq!(out.len(), 5);
            pool.remove(request);
            pool.set(request + 500_000, &Policy::new(policy_type, &[7, 7]));
        }
        assert_eq!(pool.len(), 980_000);
    }
}

/// The sorted policies but weighted round robin, as plainly as can be: a ring in the order in which elements led an
/// answer last, sorted for each request.
struct Model {
    policy_type: PolicyType,
    ring: Vec<(u32, Policy, u128)>,
}

impl Model {
    fn key(&self, (_, policy, selected): &(u32, Policy, u128)) -> u128 {
        let (load, degradation) =
            (policy.load().unwrap_or_default().0, policy.degradation().unwrap_or_default().0);
        match self.policy_type {
            PolicyType::Priority => u128::from(u32::MAX - policy.weight().unwrap()),
            PolicyType::LeastUsed => load.into(),
            PolicyType::PriorityLeastUsed => u128::from(load) + u128::from(degradation),
            PolicyType::LeastUsedDegradation => u128::from(load) + selected * u128::from(degradation),
            _ => 0,
        }
    }

    fn set(&mut self, slot: u32, policy: Policy) {
        match self.ring.iter_mut().find(|(it, ..)| *it == slot) {
            Some(known) => *known = (slot, policy, 0),
            None => self.ring.push((slot, policy, 0)),
        }
    }

    fn select(&mut self, items: usize, eligible: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut sorted: Vec<_> = self.ring.iter().filter(|(slot, ..)| eligible(*slot)).copied().collect();
        sorted.sort_by_key(|it| self.key(it));
        sorted.truncate(items);
        let mut leaders = sorted.clone();
        leaders.dedup_by_key(|it| self.key(it));
        for (leader, ..) in leaders {
            let place = self.ring.iter().position(|(slot, ..)| *slot == leader).unwrap();
            let it = self.ring.remove(place);
            self.ring.push(it);
        }
        for (slot, _, selected) in &mut self.ring {
            *selected += u128::from(sorted.iter().any(|(it, ..)| it == slot));
        }
        sorted.iter().map(|(slot, ..)| *slot).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u32, [u32; 2]),
    Remove(u32),
    Select(usize, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![4 => 0..4u32, 1 => any::<u32>(), 1 => Just(u32::MAX)];
    let step = prop_oneof![
        3 => (0..40u32, [value.clone(), value]).prop_map(|(slot, words)| Step::Set(slot, words)),
        1 => (0..40u32).prop_map(Step::Remove),
        4 => (0..8usize, 1..5u32).prop_map(|(items, bar)| Step::Select(items, bar)),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn sorted_policies_sort_as_a_plain_list_does(steps in steps(), which in 0..5usize) {
        let policy_type = [
            PolicyType::RoundRobin,
            PolicyType::Priority,
            PolicyType::LeastUsed,
            PolicyType::LeastUsedDegradation,
            PolicyType::PriorityLeastUsed,
        ][which];
        let mut selector = Selector::new(policy_type);
        let mut model = Model { policy_type, ring: Vec::new() };
        for step in steps {
            match step {
                Step::Set(slot, words) => {
                    selector.set(slot, &Policy::new(policy_type, &words));
                    model.set(slot, Policy::new(policy_type, &words));
                }
                Step::Remove(slot) => {
                    selector.remove(slot);
                    model.ring.retain(|(it, ..)| *it != slot);
                }
                Step::Select(items, bar) => {
                    let eligible = |slot: u32| bar == 1 || !slot.is_multiple_of(bar);
                    let mut out = Vec::new();
                    selector.select_among(items, &mut Rng::new(0), eligible, &mut out);
                    prop_assert_eq!(out, model.select(items, eligible));
                }
            }
            prop_assert_eq!(selector.len(), model.ring.len());
        }
    }

    #[test]
    fn weighted_policies_list_different_able_eligible_elements(steps in steps(), which in 0..4usize, seed: u64) {
        let policy_type = [
            PolicyType::WeightedRoundRobin,
            PolicyType::Random,
            PolicyType::WeightedRandom,
            PolicyType::RandomizedLeastUsed,
        ][which];
        let mut selector = Selector::new(policy_type);
        let mut known = std::collections::BTreeMap::new();
        let mut rng = Rng::new(seed);
        for step in steps {
            match step {
                Step::Set(slot, [value, _]) => {
                    let able = match policy_type {
                        PolicyType::Random => true,
                        PolicyType::RandomizedLeastUsed => value != u32::MAX,
                        _ => value != 0,
                    };
                    selector.set(slot, &Policy::new(policy_type, &[value]));
                    known.insert(slot, able);
                }
                Step::Remove(slot) => {
                    selector.remove(slot);
                    known.remove(&slot);
                }
                Step::Select(items, bar) => {
                    let eligible = |slot: u32| bar == 1 || !slot.is_multiple_of(bar);
                    let mut out = Vec::new();
                    selector.select_among(items, &mut rng, eligible, &mut out);
                    let mut allowed: Vec<u32> = known.keys().copied().filter(|slot| eligible(*slot)).collect();
                    if allowed.iter().any(|slot| known[slot]) {
                        allowed.retain(|slot| known[slot]);
                    }
                    let len = items.min(allowed.len());
                    prop_assert_eq!(out.len(), len);
                    prop_assert!(out.iter().all(|slot| allowed.contains(slot)));
                    out.sort_unstable();
                    out.dedup();
                    prop_assert_eq!(out.len(), len);
                }
            }
            prop_assert_eq!(selector.len(), known.len());
        }
    }

    /// RFC 5356 4.2.2: exact shares of each turn, entries evenly spread, an answer being what comes next in the
    /// circular list without repetitions.
    #[test]
    fn weighted_round_robin_is_an_evenly_spread_circular_list(
        weights in prop::collection::vec(1..12u32, 1..7),
        lead in 0..100usize,
    ) {
        let turn = weights.iter().sum::<u32>() as usize;
        let values: Vec<[u32; 1]> = weights.iter().map(|weight| [*weight]).collect();
        let values: Vec<&[u32]> = values.iter().map(|value| &value[..]).collect();
        let mut selector = pool(PolicyType::WeightedRoundRobin, &values);
        heads(&mut selector, lead);
        let listed = answer(&mut selector.clone(), weights.len());
        let run = heads(&mut selector, 3 * turn);
        let mut next = Vec::new();
        for slot in &run {
            if !next.contains(slot) {
                next.push(*slot);
            }
        }
        prop_assert_eq!(listed, next);
        for (slot, weight) in (0u32..).zip(&weights) {
            let share = |part: &[u32]| part.iter().filter(|it| **it == slot).count();
            prop_assert!(run.windows(turn).all(|part| share(part) == *weight as usize));
            // However far one reads, its share is off by less than two entries.
            for len in 1..turn {
                let off = (share(&run[..len]) * turn).abs_diff(len * *weight as usize);
                prop_assert!(off < 2 * turn, "{} in {:?}", slot, &run[..len]);
            }
            // Between two entries of one element lie as many of another as their ratio says, rounded either way.
            let mut parts = run.split(|it| *it == slot);
            parts.next();
            let parts: Vec<_> = parts.collect();
            for part in &parts[..parts.len() - 1] {
                for (other, other_weight) in (0u32..).zip(&weights).filter(|(other, _)| *other != slot) {
                    let between = part.iter().filter(|it| **it == other).count() as u32;
                    let ratio = other_weight / weight..=other_weight.div_ceil(*weight);
                    prop_assert!(ratio.contains(&between), "{} of {} in {:?}", between, other, part);
                }
            }
        }
    }
}
