"""What a suite may do with ``impl``: each scenario returns what it saw, in a form that can be compared.

``SHARED`` runs on a plain local module too. ``REMOTE`` needs what only the engine offers.
"""

import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from grader.candidate.host import Host
from grader.candidate.wire import Opaque
from grader.judge.impl import Impl
from grader.judge.session import CandidateError, LocalLink, Session
from grader.judge.suite import CheckFailure

SOURCE = Path(__file__).with_name("learner.py").read_text()
LINE = 1 + SOURCE[: SOURCE.index("# here")].count("\n")
SHARED: dict[str, Callable[[Any], object]] = {}
REMOTE: dict[str, Callable[[Any, Session], object]] = {}


def shared(scenario):
    SHARED[scenario.__name__] = scenario
    return scenario


def remote(scenario):
    REMOTE[scenario.__name__] = scenario
    return scenario


# --- who is asked --------------------------------------------------------------------------------------------------


class Plain:
    """The learner's file as an ordinary module, as far as the proxy's interface goes."""

    def __init__(self):
        self.module = ModuleType("submission")
        exec(compile(SOURCE, "learner.py", "exec"), self.module.__dict__)

    def __getattr__(self, name):
        return getattr(self.module, name)

    @contextmanager
    def default_device(self, device):
        with torch.device(device):
            yield


def local_session() -> Session:
    host = Host()
    session = Session(LocalLink(host))
    session.ask("load", source=SOURCE)
    return session


@dataclass(frozen=True)
class ScenariosJob:
    """Run all scenarios on a candidate of the zygote, for ``Grader.run``."""

    def __call__(self, launcher, on_check):
        candidate = launcher.launch()
        session = Session(candidate)
        session.ask("load", source=SOURCE)
        try:
            return run_all(session), candidate.layers
        finally:
            candidate.close()


def run_all(session: Session) -> dict[str, object]:
    seen = {name: outcome(lambda s=s: s(Impl(session, session.begin(7)))) for name, s in SHARED.items()}
    return seen | {name: outcome(lambda s=s: s(Impl(session, session.begin(7)), session)) for name, s in REMOTE.items()}


def run_plain() -> dict[str, object]:
    plain = Plain()
    return {name: outcome(lambda s=s: s(plain)) for name, s in SHARED.items()}


def outcome(call):
    try:
        return frozen(call())
    except Exception:
        return traceback.format_exc()


def frozen(value: object) -> object:
    """Return ``value`` as nothing but plain Python, so that it can be pickled and compared."""
    if isinstance(value, Tensor):
        numbers = value.tolist() if value.device.type == "cpu" else value.device.type
        return ("tensor", str(value.dtype), tuple(value.shape), numbers, value.requires_grad)
    if isinstance(value, (list, tuple)):
        return type(value)(frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    return "a module" if hasattr(value, "named_parameters") else value


def error_of(call) -> tuple[list[str], str]:
    """Return which built-in errors would catch what ``call`` raises, and its text."""
    kinds = (ValueError, LookupError, KeyError, ArithmeticError, ZeroDivisionError, NotImplementedError, TypeError)
    try:
        call()
    except Exception as error:
        return [kind.__name__ for kind in kinds if isinstance(error, kind)], str(error)
    return [], "nothing raised"


def leaf(*shape, dtype=torch.float32, start=1.0):
    count = torch.Size(shape).numel()
    return torch.linspace(start, start + 1.0, count, dtype=dtype).reshape(shape).requires_grad_()


# --- values --------------------------------------------------------------------------------------------------------


@shared
def positions_and_keywords(impl):
    x = torch.arange(3.0)
    return impl.scale(x), impl.scale(x, 3.0), impl.scale(x, factor=4.0, shift=0.5), impl.scale(x, shift=torch.ones(3))


@shared
def plain_values_go_and_come(impl):
    values = [None, True, 3, -2.5, "text", (), [1, (2, {"a": [3.0]})], {1: "one", (2, 3): None}]
    return [impl.echo(value) for value in values]


@shared
def dtypes_and_devices_go_and_come(impl):
    return impl.echo(torch.bfloat16) is torch.bfloat16, str(impl.echo(torch.device("cpu")))


@shared
def every_dtype(impl):
    dtypes = [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float16, torch.float64, torch.complex64]
    return [impl.identity(torch.tensor([0, 1, 1]).to(dtype)) for dtype in dtypes]


@shared
def scalars_and_empty_tensors(impl):
    return impl.scale(torch.tensor(2.0)), impl.scale(torch.zeros(0, 3)), impl.scale(torch.zeros(2, 0))


@shared
def strides_arrive(impl):
    x = torch.arange(24.0).reshape(2, 3, 4)
    views = [x, x.mT, x[:, ::2], x[1], x[:1].expand(5, 3, 4), x.flatten().unfold(0, 4, 2)]
    return [impl.strides(view) for view in views], [impl.scale(view) for view in views]


@shared
def one_tensor_passed_twice_is_one(impl):
    x = torch.ones(2)
    return impl.are_one(x, x), impl.are_one(x, x.clone()), impl.are_one(x, y=x)


@shared
def one_tensor_returned_thrice_is_one(impl):
    a, (b,), c = impl.twice(torch.ones(2))
    return a, a is b, b is c["again"]


@shared
def state_of_the_file_stays(impl):
    before = impl.count()
    return [impl.count() - before for _ in range(3)]


@shared
def the_default_device_is_heeded(impl):
    with impl.default_device("meta"):
        there = impl.fresh()
    return there, impl.fresh()


# --- gradients -----------------------------------------------------------------------------------------------------


@shared
def the_wish_for_gradients_arrives(impl):
    x = leaf(2)
    with torch.no_grad():
        without = impl.wants(x)
    return impl.wants(x)[0], impl.wants(x * 2)[0], impl.wants(torch.ones(2)), without


@shared
def gradients_reach_inputs(impl):
    x, y = leaf(2, 3), leaf(2, 3, start=0.0)
    (impl.weigh(x, y) * torch.arange(6.0).reshape(2, 3)).sum().backward()
    return x.grad, y.grad


@shared
def gradients_go_through_what_came_before_and_comes_after(impl):
    x = leaf(3)
    y = impl.weigh(x * 2, impl.scale(x)) * 3
    y.sum().backward()
    return y, x.grad


@shared
def gradients_add_up(impl):
    x = leaf(3)
    for _ in range(2):
        impl.scale(x).sum().backward()
    return x.grad


@shared
def gradients_of_several_outputs(impl):
    x, y = leaf(3), leaf(3)
    a, b = impl.two(x, y)
    (a.sum() + (2 * b).sum()).backward()
    return a, b, x.grad, y.grad


@shared
def gradients_of_one_of_several_outputs(impl):
    x, y = leaf(3), leaf(3)
    impl.two(x, y)[1].sum().backward()
    return x.grad, y.grad


@shared
def outputs_go_back_one_after_the_other(impl):
    x, y = leaf(3), leaf(3)
    a, b = impl.two(x, y)
    a.sum().backward()
    b.sum().backward()
    return x.grad, y.grad


@shared
def an_unused_input_has_no_gradient(impl):
    x, y = leaf(2), leaf(2)
    impl.first(x, y).sum().backward()
    return x.grad, y.grad, torch.autograd.grad(impl.first(x, y).sum(), [x, y], allow_unused=True)


@shared
def gradients_with_respect_to_one_input(impl):
    x, y = leaf(2), leaf(2)
    return torch.autograd.grad(impl.weigh(x, y).sum(), [y])


@shared
def no_grad_is_heeded(impl):
    x = leaf(2)
    with torch.no_grad():
        out = impl.weigh(x, x)
    with torch.inference_mode():
        also = impl.weigh(x, x)
    return out, also.requires_grad


@shared
def indices_need_no_gradient(impl):
    x = leaf(2, 3)
    values, indices = impl.top(x)
    values.sum().backward()
    return values, indices, x.grad


@shared
def a_detached_result_needs_no_gradient(impl):
    return impl.detached(leaf(2))


@shared
def the_input_itself_comes_back(impl):
    x = leaf(2)
    (impl.identity(x) * 3).sum().backward()
    return x.grad


@shared
def tensors_in_containers_and_keywords_have_gradients(impl):
    parts, extra = [leaf(2), leaf(3)], leaf(1)
    impl.halves(parts, extra=extra).sum().backward()
    return parts[0].grad, parts[1].grad, extra.grad


@shared
def one_input_passed_twice_gathers_both_gradients(impl):
    x = leaf(3)
    impl.weigh(x, x).sum().backward()
    return x.grad


@shared
def results_may_be_changed_in_place(impl):
    x = leaf(2)
    out = impl.scale(x)
    out += 1
    out.sum().backward()
    return out, x.grad


@shared
def gradients_of_half_precision(impl):
    x = leaf(4, dtype=torch.bfloat16)
    out = impl.scale(x, 3.0)
    out.sum().backward()
    return out, x.grad


@shared
def complex_numbers_have_gradients(impl):
    z, x = leaf(3, dtype=torch.complex64), leaf(3)
    out = impl.turn(z, x)
    (out * torch.tensor([1 + 2j, 0.5j, -1.0])).real.sum().backward()
    return out, z.grad, x.grad


@shared
def gradients_of_a_strided_view(impl):
    x = leaf(3, 4)
    (impl.scale(x.mT[1:]) * torch.arange(9.0).reshape(3, 3)).sum().backward()
    return x.grad


@shared
def an_error_on_the_way_back_is_raised(impl):
    x = leaf(2)
    return error_of(lambda: impl.no_way_back(x).sum().backward())


# --- modules -------------------------------------------------------------------------------------------------------


@shared
def a_module_computes(impl):
    module = impl.Affine(2).eval()
    x = torch.arange(4.0).reshape(2, 2)
    return module(x), module.step(x, times=2), module.size(), module.training, impl.Affine(3, bias=False)(torch.ones(3))


@shared
def names_and_shapes_of_parameters(impl):
    block = impl.Block(2)
    return [(name, tuple(p.shape), p.requires_grad) for name, p in block.named_parameters()], len(
        list(block.parameters())
    )


@shared
def parameters_are_parameters(impl):
    module = impl.Affine(2)
    return [isinstance(p, nn.Parameter) for p in module.parameters()], module.weight, module.bias


@shared
def gradients_reach_parameters(impl):
    module, x = impl.Affine(2), leaf(3, 2)
    module(x).sum().backward()
    first = module.weight.grad.clone(), module.bias.grad.clone()
    module(x).sum().backward()
    return first, module.weight.grad, module.bias.grad, x.grad


@shared
def gradients_reach_parameters_without_inputs_that_need_them(impl):
    module = impl.Affine(2)
    module.step(torch.ones(2), times=2).sum().backward()
    return module.weight.grad, module.bias.grad


@shared
def gradients_are_forgotten(impl):
    module = impl.Affine(2)
    module(torch.ones(2)).sum().backward()
    module.zero_grad()
    return [p.grad for p in module.parameters()]


@shared
def gradients_reach_nested_parameters(impl):
    block = impl.Block(2)
    out, seen = block(torch.ones(1, 2))
    out.sum().backward()
    return out, seen, block.inner.weight.grad, {name: p.grad for name, p in block.named_parameters()}


@shared
def state_is_loaded_and_read(impl):
    module = impl.Affine(2)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    state["weight"] = torch.arange(4.0).reshape(2, 2)
    module.load_state_dict(state)
    return module.eval()(torch.ones(2)), module.state_dict(), module.weight


@shared
def a_state_that_does_not_fit_is_refused(impl):
    refused = []
    good = dict(impl.Affine(2).state_dict())
    for state in (
        {"weight": good["weight"]},
        good | {"more": torch.ones(1)},
        good | {"weight": torch.ones(3, 3)},
        {},
    ):
        try:
            impl.Affine(2).load_state_dict(state)
            refused.append(False)
        except (RuntimeError, CheckFailure):
            refused.append(True)
    impl.Affine(2).load_state_dict({"weight": good["weight"]}, strict=False)
    return refused


@shared
def what_is_written_into_parameters_counts(impl):
    module = impl.Affine(2).eval()
    with torch.no_grad():
        module.weight.zero_()
        module.bias[0] = 5.0
        for parameter in module.parameters():
            parameter.mul_(2.0)
    return module(torch.ones(2)), module.state_dict()["bias"]


@shared
def a_step_of_gradient_descent(impl):
    block, x = impl.Block(2), torch.ones(1, 2)
    losses = []
    for _ in range(3):
        block.zero_grad()
        loss = block(x)[0].square().sum()
        loss.backward()
        losses.append(loss.detach())
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.sub_(1e-3 * parameter.grad)
    return losses


@shared
def another_dtype(impl):
    module = impl.Affine(2).eval()
    half = module.to(torch.bfloat16)
    same = half is module
    out = module(torch.ones(2, dtype=torch.bfloat16))
    double = module.double()(torch.ones(2, dtype=torch.float64))
    return same, out, double, module.weight, module.float().weight


@shared
def gradients_after_a_change_of_dtype(impl):
    module = impl.Affine(2).double()
    module(torch.ones(2, dtype=torch.float64)).sum().backward()
    return module.weight.grad


@shared
def training_and_evaluation(impl):
    module, x = impl.Affine(2), torch.ones(2)
    seen = [module.training, module(x)]
    for change in module.eval, module.train, lambda: module.train(False):
        seen += [change() is module, module.training, module(x)]
    return seen


@shared
def a_train_that_forgets_to_return(impl):
    module, x = impl.Quiet(), torch.ones(2)
    loud = module(x)
    module.train(False)
    return loud, module.training, module(x)


@shared
def buffers(impl):
    block = impl.Block(2)
    for _ in range(3):
        block(torch.ones(1, 2))
    return dict(block.named_buffers()), sorted(block.state_dict()), block.inner.seen, block.inner.cache


@shared
def tied_parameters(impl):
    tied = impl.Tied()
    tied(torch.tensor([0, 3])).sum().backward()
    gradient = tied.embed.weight.grad.clone()
    with torch.no_grad():
        tied.embed.weight.mul_(2.0)
    return (
        [name for name, _ in tied.named_parameters()],
        sorted(tied.state_dict()),
        gradient,
        tied.head.weight is tied.embed.weight,
        tied(torch.tensor([1])),
    )


@shared
def a_frozen_parameter(impl):
    module = impl.Frozen()
    module(torch.ones(2)).sum().backward()
    return [(name, p.requires_grad, p.grad) for name, p in module.named_parameters()]


@shared
def a_parameter_made_in_the_first_call(impl):
    module = impl.Lazy()
    before = [name for name, _ in module.named_parameters()]
    module(torch.ones(2)).sum().backward()
    first = module.weight.grad.clone()
    module(torch.ones(2)).sum().backward()
    return before, first, module.weight, module.weight.grad


@shared
def modules_go_in_and_out_of_functions(impl):
    one, (two, three) = impl.make_affine(2), impl.make_pair(2)
    x = torch.ones(2)
    with torch.no_grad():
        two.weight.mul_(3.0)
        return impl.run(one, x), impl.run(two, x), three(x), one.itself() is one


@shared
def what_the_learner_writes_into_parameters_shows(impl):
    module = impl.Affine(2).eval()
    impl.halve(module)
    halved = module.weight.detach().clone()
    module.reset()
    with torch.no_grad():
        module.bias.fill_(7.0)
    return halved, module.weight, module(torch.ones(2))


# --- errors --------------------------------------------------------------------------------------------------------


@shared
def what_a_method_does_to_parameters_shows(impl):
    module = impl.Restless()
    seen = []
    for change in module.merge, module.exchange, module.freeze:
        change()
        seen.append([(p.tolist(), p.requires_grad) for p in module.parameters()])
    return seen


@shared
def what_a_switch_does_to_parameters_shows(impl):
    seen = []
    for module in impl.Restless(), impl.Switched():
        module.eval()
        out = module(torch.ones(2)).tolist()
        seen.append((out, [p.tolist() for p in module.parameters()], module.training))
    return seen


@shared
def errors_are_of_the_types_that_were_raised(impl):
    calls = [
        lambda: impl.odd(3),
        lambda: impl.odd_in_my_own_words(3),
        impl.unhappy,
        lambda: impl.divide(0),
        lambda: impl.look_up("x"),
        impl.unwritten,
    ]
    return [error_of(call) for call in calls], impl.odd(2)


@shared
def wrong_arguments_are_a_type_error(impl):
    return [error_of(call)[0] for call in (impl.odd, lambda: impl.odd(2, 3), lambda: impl.odd(m=2))]


@shared
def the_next_call_is_fine_after_an_error(impl):
    module = impl.Affine(2).eval()
    error_of(lambda: module(torch.ones(3)))
    return module(torch.ones(2))


# --- what only the engine knows ------------------------------------------------------------------------------------


@remote
def an_error_knows_line_type_and_call(impl, session):
    seen = []
    for call in (
        lambda: impl.odd(3),
        lambda: impl.odd_in_my_own_words(1),
        impl.leave,
        impl.interrupt,
        impl.talk_back,
        lambda: impl.Affine("x"),
    ):
        try:
            call()
        except CandidateError as error:
            seen.append((error.type_name, error.call, error.line == LINE, error.line is None))
    return seen


@remote
def a_recursion_without_end_is_an_error(impl, session):
    try:
        impl.recurse(0)
    except RecursionError as error:
        return error.type_name
    return None


@remote
def what_cannot_cross_is_named(impl, session):
    strange = impl.strange()
    try:
        impl.endless()
    except CandidateError as error:
        return {name: value.type_name for name, value in strange.items() if isinstance(value, Opaque)}, error.type_name
    return None


@remote
def inputs_that_were_changed_are_told_and_stay(impl, session):
    told = []
    for call in impl.add_in_place, impl.sort_a_part, impl.resize, impl.scale:
        x = torch.arange(3.0)
        call(x)
        told.append((len(session.changed), x.tolist(), list(x.shape)))
        session.changed.clear()
    x = torch.zeros(4, 4)
    impl.add_in_place(x.mT[1:])
    view = session.changed[:]
    session.changed.clear()
    impl.add_in_place(torch.full((2,), float("nan")))
    return told, view, session.changed[:]


@remote
def numbers_put_for_what_is_none_are_told(impl, session):
    told = []
    for odd in "inf", "-inf", "nan", "1.0":
        impl.tame(torch.tensor([float(odd), 2.0]))
        told.append(len(session.changed))
        session.changed.clear()
    nothing, x = torch.empty(3, device="meta"), torch.zeros(2)
    return told, impl.is_one(nothing, x, z=nothing), session.changed[:]


@remote
def a_name_that_is_missing_is_told(impl, session):
    told = []
    for name in "apply_rotary", "calls", "torch":
        try:
            getattr(impl, name)
        except CheckFailure as failure:
            told.append(str(failure))
    return told


@remote
def a_misfit_of_weights_is_told(impl, session):
    try:
        impl.Affine(2).load_state_dict({"weight": torch.ones(3, 2), "gain": torch.ones(1)})
    except CheckFailure as failure:
        return str(failure)
    return None


@remote
def a_part_that_is_missing_is_told(impl, session):
    module, told = impl.Block(2), []
    for look in (lambda: module.gain, lambda: module.inner.gain, lambda: module.layers.weight):
        try:
            look()
        except CheckFailure as failure:
            told.append(str(failure))
    return told


@remote
def a_class_that_makes_no_module_is_told(impl, session):
    try:
        impl.Unhappy("x")
    except CheckFailure as failure:
        return str(failure)
    return None


@remote
def the_seed_of_the_check_decides_what_is_drawn(impl, session):
    draws = []
    for seed in 1, 1, 2:
        session.begin(seed)
        draws.append(impl.draw().tolist())
    return draws[0] == draws[1], draws[0] == draws[2]


@remote
def the_trace_counts_operators(impl, session):
    counts = []
    for call in impl.loop, impl.at_once:
        for size in 2, 9:
            with impl.trace() as trace:
                call(torch.ones(size, 3))
            counts.append(len([op for op in trace.ops if op.name == "exp"]))
    return counts


@remote
def the_trace_knows_shapes_and_sizes(impl, session):
    with impl.trace() as trace:
        impl.outer(torch.ones(5))
    multiplied = next(op for op in trace.ops if op.name == "mul")
    return multiplied.inputs, multiplied.outputs, trace.ops[-1].outputs, trace.largest, trace.functions[-1]


@remote
def the_trace_ends_with_its_block(impl, session):
    with impl.trace() as first:
        impl.at_once(torch.ones(2))
    impl.at_once(torch.ones(2))
    with impl.trace() as second:
        pass
    return len(first.ops), len(second.ops)


@remote
def a_long_trace_arrives(impl, session):
    with impl.trace() as trace:
        impl.many(torch.ones(2, 3, 4), 12_000)
    return len(trace.ops), trace.ops[-1].inputs


@remote
def a_trace_ends_when_the_call_raises(impl, session):
    try:
        with impl.trace() as trace:
            impl.odd(3)
    except ValueError:
        return len(trace.ops), impl.odd(2).tolist()
    return None


@remote
def devices_that_meet_are_told(impl, session):
    met = {}
    x, i = torch.ones(3, 4, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta")
    calls = {
        "index_with_new": lambda: impl.index_with_new(x),  # the one way that is allowed
        "index_a_new_one": lambda: impl.index_a_new_one(i),
        "embed_in_new": lambda: impl.embed_in_new(i),
        "multiply_new": lambda: impl.multiply_new(x),
        "follow": lambda: impl.follow(x),
        "to_cpu": lambda: impl.to_cpu(x),
        "looks_at_a_value": lambda: impl.looks_at_a_value(x),
    }
    for name, call in calls.items():
        with impl.trace() as trace:
            try:
                result = call().device.type
            except RuntimeError:
                result = "raises"
        met[name] = (bool(trace.mixed), result)
    return met


@remote
def a_module_goes_to_another_device(impl, session):
    module = impl.Affine(2).to("meta")
    devices = module.weight.device.type, dict(module.named_buffers())["cache"].device.type
    with impl.trace() as trace:
        out = module(torch.ones(2, device="meta"))
    with impl.trace() as mixed:
        error = error_of(lambda: module(torch.ones(2)))[1] == "nothing raised"
    return devices, out.device.type, trace.mixed, bool(mixed.mixed) or not error


@remote
def nothing_slow_was_imported_by_all_this(impl, session):
    return impl.slow_modules()
