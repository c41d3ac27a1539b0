"""The classic faults of PPO, each with the one test that must notice it."""

from typing import NamedTuple


class Fault(NamedTuple):
    """In `file`, under the package, `old` (found exactly once) becomes `new`; then `test` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


LOSSES, MODELS = "tests/unit/train/common/test_losses.py::", "tests/unit/train/common/test_models.py::"
SYNC = "tests/unit/train/ppo/test_sync.py::"
GIBBS = "tests/e2e/train/test_gibbs.py::"
KWISE = "tests/unit/train/reward/test_kwise.py::"
UNCERTAINTY = "tests/unit/train/reward/test_uncertainty.py::"
WELFARE = "tests/unit/train/rewards/test_welfare.py::"
INVARIANCE = "tests/unit/train/common/test_invariance.py::"

FAULTS = [
    Fault(
        "the KL penalty has the wrong sign",
        "train/common/losses.py",
        "rewards_BT = -kl_coef *",
        "rewards_BT = kl_coef *",
        LOSSES + "test_score_lands_on_the_last_token_and_kl_on_every_token",
    ),
    Fault(
        "the KL penalty counts padding",
        "train/common/losses.py",
        "(logprobs_BT - ref_logprobs_BT) * mask_BT",
        "(logprobs_BT - ref_logprobs_BT)",
        LOSSES + "test_score_lands_on_the_last_token_and_kl_on_every_token",
    ),
    Fault(
        "the KL penalty is clamped to be positive",
        "train/common/losses.py",
        "-kl_coef * (logprobs_BT - ref_logprobs_BT) * mask_BT",
        "-kl_coef * (logprobs_BT - ref_logprobs_BT).clamp(min=0) * mask_BT",
        LOSSES + "test_score_lands_on_the_last_token_and_kl_on_every_token",
    ),
    Fault(
        "the reward comes after the end of the response",
        "train/common/losses.py",
        "last_B = mask_BT.sum(dim=1).long() - 1",
        "last_B = (mask_BT.sum(dim=1).long()).clamp(max=mask_BT.shape[1] - 1)",
        LOSSES + "test_score_lands_on_the_last_token_and_kl_on_every_token",
    ),
    Fault(
        "GAE is shifted by one token",
        "train/common/losses.py",
        "        delta = rewards_BT[:, t] + gamma * next_value - masked_values_BT[:, t]",
        "        delta = rewards_BT[:, t] + gamma * masked_values_BT[:, t] - next_value",
        LOSSES + "test_gae",
    ),
    Fault(
        "GAE takes the advantages of the padding",
        "train/common/losses.py",
        "ahead = (delta + gamma * lam * ahead) * mask_BT[:, t]",
        "ahead = delta + gamma * lam * ahead",
        LOSSES + "test_gae_sees_nothing_beyond_the_end",
    ),
    Fault(
        "each process whitens by its own rows",
        "train/ppo/forward.py",
        "(team.sum(tensor) for tensor in found)",
        "found",
        "tests/e2e/train/test_parallel.py::test_two_processes_learn_what_one_does[7]",
    ),
    Fault(
        "the clip takes the optimistic side",
        "train/common/losses.py",
        "torch.maximum(-advantages * ratio,",
        "torch.minimum(-advantages * ratio,",
        LOSSES + "test_clipped_surrogate",
    ),
    Fault(
        "the adaptive KL coefficient moves the wrong way",
        "train/common/losses.py",
        "min(max(kl / target - 1.0, -0.2), 0.2)",
        "min(max(1.0 - kl / target, -0.2), 0.2)",
        LOSSES + "test_adaptive_kl",
    ),
    Fault(
        "the trainer forgets the temperature",
        "train/common/models.py",
        ".float() / temperature",
        ".float()",
        MODELS + "test_logprobs_values_and_entropy_equal_the_plain_computation",
    ),
    Fault(
        "a value is read one place late",
        "train/common/models.py",
        "states_ND = hidden_states(self.critic, batch)[batch.predict_N]",
        "states_ND = hidden_states(self.critic, batch)[batch.predict_N + 1]",
        MODELS + "test_logprobs_values_and_entropy_equal_the_plain_computation",
    ),
    Fault(
        "the response starts one token late",
        "train/common/batching.py",
        "for token in sequence[start:]\n",
        "for token in [*sequence[start + 1 :], sequence[-1]]\n",
        MODELS + "test_logprobs_values_and_entropy_equal_the_plain_computation",
    ),
    Fault(
        "a mean over each micro-batch in place of the minibatch",
        "train/ppo/update.py",
        "(loss / tokens).backward()",
        "(loss / outputs[0].numel()).backward()",
        INVARIANCE + "test_micro_batching_changes_no_loss_and_no_gradient",
    ),
    Fault(
        "length buckets return the rows out of order",
        "train/common/rollout.py",
        "output_BT[group] = part_BT",
        "output_BT[sorted(group)] = part_BT",
        INVARIANCE + "test_the_order_of_the_rows_is_kept",
    ),
    Fault(
        "padding is told by the pad token",
        "train/common/batching.py",
        "torch.tensor(target, dtype=torch.long, device=device)",
        "torch.tensor([0 if t == pad_id else t for t in target], dtype=torch.long, device=device)",
        INVARIANCE + "test_the_pad_token_may_be_any_token",
    ),
    Fault(
        "the reference keeps the adapters on",
        "train/common/lora.py",
        "layer._disable_adapters = name is None",
        "layer._disable_adapters = False",
        INVARIANCE + "test_adapters_off_are_the_reference",
    ),
    Fault(
        "the reference is the policy in training",
        "train/ppo/setup.py",
        "partial(_reference_logprobs, frozen, config.temperature, adapter_off=False)",
        "partial(_reference_logprobs, actor, config.temperature, adapter_off=False)",
        GIBBS + "test_ppo_lands_at_the_optimum",
    ),
    Fault(
        "the engine never gets the new weights",
        "train/ppo/sync.py",
        "self.engine.update_weights(named_weights(self.actor.model), fingerprint=mark)",
        "list(named_weights(self.actor.model))",
        GIBBS + "test_ppo_lands_at_the_optimum",
    ),
    Fault(
        "leave-one-out includes the sample itself",
        "train/ppo/baselines.py",
        "others_PK = (groups_PK.sum(dim=1, keepdim=True) - groups_PK) / (samples - 1)",
        "others_PK = groups_PK.mean(dim=1, keepdim=True)",
        "tests/unit/train/ppo/test_algorithms.py::test_leave_one_out_by_hand",
    ),
    Fault(
        "the engine keeps tensors that are freed during a sync",
        "engines/transformers.py",
        "tensor.detach().clone() for name, tensor in named_tensors",
        "tensor.detach() for name, tensor in named_tensors",
        "tests/e2e/engines/test_contract.py::test_new_weights_answer_at_once_and_exactly[transformers]",
    ),
    Fault(
        "vLLM's packed output layer stays stale after a sync",
        "engines/vllm/worker.py",
        "if current_platform.is_cpu() and tied and",
        "if False and tied and",
        "tests/e2e/engines/test_contract.py::test_new_weights_answer_at_once_and_exactly[vllm]",
    ),
    Fault(
        "vLLM keeps tensors that are freed during a sync",
        "engines/vllm/engine.py",
        "tensor.detach().clone()) for name, tensor in named_tensors",
        "tensor.detach()) for name, tensor in named_tensors",
        "tests/e2e/engines/test_contract.py::test_new_weights_answer_at_once_and_exactly[vllm]",
    ),
    Fault(
        "the engine's change over a push is not compared with the trainer's",
        "train/ppo/sync.py",
        "    if kept is not None:",
        "    if kept is not None and not kept:",
        SYNC + "test_in_16_bits_old_weights_show_where_the_policy_moves_enough",
    ),
    Fault(
        "the probe fills the context",
        "train/ppo/probe.py",
        "whole[: limit - 1]",
        "whole[:limit]",
        SYNC + "test_a_prompt_and_a_response_that_fill_the_context_are_trained_on",
    ),
    Fault(
        "a ranking's likelihood counts those already placed",
        "train/reward/kwise.py",
        "left = scores.flip(-1).logcumsumexp(-1).flip(-1)",
        "left = scores.logsumexp(-1, keepdim=True)",
        KWISE + "test_plackett_luce_by_hand",
    ),
    Fault(
        "pairs that contradict one another are a ranking",
        "train/reward/kwise.py",
        "return apart and all(",
        "return apart or all(",
        KWISE + "test_pairs_that_make_no_order_stay_pairs",
    ),
    Fault(
        "standard errors forget how sure a pair was",
        "train/reward/uncertainty.py",
        "weights_N.double() * prob_N * (1.0 - prob_N)",
        "weights_N.double() * 0.25",
        UNCERTAINTY + "test_errors_by_hand",
    ),
    Fault(
        "a lower bound is an upper one",
        "train/reward/model.py",
        "scores_Bk[:, 0] - normal.penalty * errors_B",
        "scores_Bk[:, 0] + normal.penalty * errors_B",
        UNCERTAINTY + "test_the_bound_is_the_score_less_the_errors_in_units_of_the_score",
    ),
    Fault(
        "the least of several rewards counts those that are measured alone",
        "train/rewards/welfare.py",
        'if part.weight or welfare.name == "sum"',
        "if True",
        WELFARE + "test_a_part_of_weight_0_is_measured_alone",
    ),
    Fault(
        "the isoelastic welfare is not brought back to the unit of the parts",
        "train/rewards/welfare.py",
        "** (1.0 / power)",
        "* 1.0",
        WELFARE + "test_welfare_by_hand",
    ),
]
