//! Policies between C and Rust.

use super::error;
use super::layout::rsp_loadinfo;
use crate::policy::{Policy, PolicyType};
use crate::socket::Result;

/// The policy in `loadinfo`.
///
/// # Safety
/// `loadinfo` is NULL or readable.
pub(super) unsafe fn policy(loadinfo: *const rsp_loadinfo) -> Result<Policy> {
    if loadinfo.is_null() {
        return error(libc::EFAULT, "loadinfo is NULL");
    }
    // SAFETY: not NULL, and readable by the caller's promise.
    let info = unsafe { *loadinfo };
    let Some(policy_type) = PolicyType::from_number(info.rli_policy) else {
        return error(libc::EINVAL, format!("0x{:08x} is no policy known (see PPT_...)", info.rli_policy));
    };
    let mut words = Vec::new();
    let mut info = info;
    for field in policy_fields(policy_type) {
        words.push(*field(&mut info));
    }
    Ok(Policy::new(policy_type, &words))
}

/// A policy as C has it.
pub(super) fn loadinfo(policy: &Policy) -> rsp_loadinfo {
    let mut info = rsp_loadinfo { rli_policy: policy.policy_type().number(), ..rsp_loadinfo::default() };
    for (field, word) in policy_fields(policy.policy_type()).iter().zip(policy.words()) {
        *field(&mut info) = *word;
    }
    info
}

type Field = fn(&mut rsp_loadinfo) -> &mut u32;

/// Which fields carry a policy's words, in wire order. The distance behind a DPF policy's words is the
/// registrar's to fill in.
fn policy_fields(policy_type: PolicyType) -> &'static [Field] {
    const WEIGHT: Field = |info| &mut info.rli_weight;
    const WEIGHT_DPF: Field = |info| &mut info.rli_weight_dpf;
    const LOAD: Field = |info| &mut info.rli_load;
    const DEGRADATION: Field = |info| &mut info.rli_load_degradation;
    const LOAD_DPF: Field = |info| &mut info.rli_load_dpf;
    match policy_type {
        PolicyType::RoundRobin | PolicyType::Random => &[],
        PolicyType::WeightedRoundRobin | PolicyType::WeightedRandom | PolicyType::Priority => &[WEIGHT],
        PolicyType::LeastUsed | PolicyType::RandomizedLeastUsed => &[LOAD],
        PolicyType::LeastUsedDegradation
        | PolicyType::PriorityLeastUsed
        | PolicyType::RandomizedPriorityLeastUsed
        | PolicyType::RandomizedLeastUsedDegradation
        | PolicyType::PriorityLeastUsedDegradation
        | PolicyType::RandomizedPriorityLeastUsedDegradation => &[LOAD, DEGRADATION],
        PolicyType::WeightedRandomDpf => &[WEIGHT, WEIGHT_DPF],
        PolicyType::LeastUsedDpf => &[LOAD, LOAD_DPF],
        PolicyType::LeastUsedDegradationDpf => &[LOAD, DEGRADATION, LOAD_DPF],
    }
}
