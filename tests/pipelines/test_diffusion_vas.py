"""One pipeline for both stages: what the UNet is fed, in which order noise is drawn, guidance, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from diffvas.diffusion import conditioning, edm
from diffvas.diffusion.sampling import Sampling
from diffvas.pipelines.diffusion_vas import BEHAVIOURS, PLAIN, ConditionLatents, DiffusionVASPipeline, Fast
from factories import FRAMES, HEIGHT, WIDTH, tiny_model

h, w = HEIGHT // 8, WIDTH // 8


@pytest.fixture
def pipe() -> DiffusionVASPipeline:
    return tiny_model().amodal


def images(seed: int) -> torch.Tensor:
    return torch.rand(FRAMES, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditions(pipe: DiffusionVASPipeline) -> ConditionLatents:
    draw = seeded(11)
    latents = torch.randn(FRAMES, 8, h, w, generator=draw)
    tokens = torch.randn(FRAMES, pipe.unet.config.cross_attention_dim, generator=draw)
    return ConditionLatents(latents, tokens, 0.02)


class Recorder:
    """In the UNet's place: keeps what it is called with; answers 1 to null conditions and 3 to others."""

    def __init__(self) -> None:
        self.calls: list[dict[str, torch.Tensor]] = []

    def __call__(
        self, x: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor, *, added_time_ids: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor]:
        self.calls.append({"x": x, "t": t, "tokens": tokens, "ids": added_time_ids})
        given = x[:, :, 4:].abs().amax((1, 2, 3, 4)) > 0
        return (torch.where(given, 3.0, 1.0)[:, None, None, None, None].expand_as(x[:, :, :4]),)


@pytest.fixture
def recorder(pipe: DiffusionVASPipeline, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    unet = Recorder()
    monkeypatch.setattr(pipe.unet, "forward", unet)
    return unet


def test_a_saved_pipeline_gives_the_same(pipe: DiffusionVASPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.suffix in {".bin", ".pt", ".ckpt"}]
    again = DiffusionVASPipeline.from_pretrained(tmp_path, use_safetensors=True, local_files_only=True)
    again.set_progress_bar_config(disable=True)
    assert again.config.stage == "amodal" and again.config.defaults == pipe.config.defaults
    for part in ("vae", "unet", "image_encoder"):
        old, new = getattr(pipe, part).state_dict(), getattr(again, part).state_dict()
        assert old.keys() == new.keys() and all(torch.equal(old[key], new[key]) for key in old)
        for tensor in (*getattr(again, part).parameters(), *getattr(again, part).buffers()):
            tensor.data = (
                tensor.data.clone()
            )  # a file's weights start anywhere in memory, where kernels round otherwise
    outputs = [p(images(0), images(1), generator=seeded()) for p in (pipe, again)]
    assert outputs[0].shape == (FRAMES, 3, HEIGHT, WIDTH) and outputs[0].dtype == torch.float32
    assert 0 <= outputs[0].min() and outputs[0].max() <= 1
    assert torch.equal(*outputs)


def draw(pipe: DiffusionVASPipeline, given: ConditionLatents, **how: Any) -> torch.Tensor:
    """One sample, as latents."""
    return pipe.denoise(given, [seeded()], pipe.sampling(**how))[0]


def test_order_of_draws(pipe: DiffusionVASPipeline, recorder: Recorder) -> None:
    """Noise of condition A, of condition B, then the initial latents, from one generator."""
    pipe(images(0), images(1), generator=seeded(), steps=1, guidance=1.0)
    draw = seeded()
    noise_a, noise_b = (torch.randn(FRAMES, 3, HEIGHT, WIDTH, generator=draw) for _ in range(2))
    z = torch.randn(1, FRAMES, 4, h, w, generator=draw)
    with torch.no_grad():
        a = conditioning.encode(pipe.vae, images(0) + 0.02 * noise_a)
        b = conditioning.encode(pipe.vae, images(1) + 0.02 * noise_b)
    x = recorder.calls[0]["x"]
    torch.testing.assert_close(x[0, :, :4], z[0], rtol=1e-4, atol=1e-4)  # of unit variance at the highest sigma
    torch.testing.assert_close(x[0, :, 4:8], a, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x[0, :, 8:], b, rtol=1e-4, atol=1e-5)


@pytest.fixture
def plain(pipe: DiffusionVASPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fast paths: the tokens go the way that diffusers made for them."""
    monkeypatch.setattr(pipe, "fast", PLAIN)


@pytest.mark.usefixtures("plain")
def test_what_the_network_is_told(pipe: DiffusionVASPipeline, recorder: Recorder) -> None:
    pipe(images(0), images(1), generator=seeded(), steps=3, guidance=1.0, noise=0.3)
    torch.testing.assert_close(torch.stack([c["t"] for c in recorder.calls]), edm.c_noise(edm.karras_sigmas(3)[:-1]))
    for call in recorder.calls:
        torch.testing.assert_close(call["ids"], torch.tensor([[8.0, 127.0, 0.3]]))
        assert call["tokens"].shape == (1, FRAMES, pipe.unet.config.cross_attention_dim)
    # tokens come from condition A without noise
    with torch.no_grad():
        pixels = conditioning.clip_pixels(images(0), pipe.image_encoder.config.image_size)
        tokens = conditioning.clip_tokens(pipe.image_encoder, pixels[None])
    torch.testing.assert_close(recorder.calls[0]["tokens"], tokens)


def test_condition_b_may_be_unknown(pipe: DiffusionVASPipeline, recorder: Recorder) -> None:
    pipe(images(0), None, generator=seeded(), steps=1, guidance=1.0)
    x = recorder.calls[0]["x"]
    assert x[:, :, 4:8].abs().max() > 0
    assert x[:, :, 8:].abs().max() == 0


@pytest.mark.usefixtures("plain")
def test_guidance_runs_null_and_condition_side_by_side(pipe: DiffusionVASPipeline, recorder: Recorder) -> None:
    given = conditions(pipe)
    z = draw(pipe, given, steps=1, guidance=2.0)
    call = recorder.calls[0]
    assert call["x"].shape[0] == call["tokens"].shape[0] == call["ids"].shape[0] == 2
    assert call["x"][0, :, 4:].abs().max() == 0 and call["tokens"][0].abs().max() == 0
    assert torch.equal(call["x"][1, :, 4:], given.latents) and torch.equal(call["tokens"][1], given.tokens)
    assert torch.equal(call["x"][0, :, :4], call["x"][1, :, :4])
    start = torch.randn(1, FRAMES, 4, h, w, generator=seeded()) * (edm.SIGMA_MAX**2 + 1) ** 0.5
    f = torch.full_like(start, 1 + 2 * (3 - 1))
    expected = edm.denoised(start, f, torch.tensor([edm.SIGMA_MAX]))
    torch.testing.assert_close(z, expected[0], rtol=1e-3, atol=1e-3)


def test_guidance_of_one_is_the_condition_alone(pipe: DiffusionVASPipeline, recorder: Recorder) -> None:
    given = conditions(pipe)
    alone = draw(pipe, given, steps=2, guidance=1.0)
    assert {len(c["x"]) for c in recorder.calls} == {1}, "the null half was computed for nothing"
    both = draw(pipe, given, steps=2, guidance=1.0 + 1e-6)
    torch.testing.assert_close(alone, both, rtol=1e-3, atol=1e-3)


def test_guidance_of_one_with_the_real_network(pipe: DiffusionVASPipeline) -> None:
    given = conditions(pipe)
    alone = draw(pipe, given, steps=1, guidance=1.0)
    both = draw(pipe, given, steps=1, guidance=1.0 + 1e-6)
    far = draw(pipe, given, steps=1, guidance=3.0)
    torch.testing.assert_close(alone, both, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(alone, far, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("plain")
def test_every_frame_attends_to_the_tokens_of_all_frames(pipe: DiffusionVASPipeline) -> None:
    seen = []

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(kwargs["encoder_hidden_states"])

    block = pipe.unet.mid_block.attentions[0].transformer_blocks[0]
    hook = block.attn2.register_forward_pre_hook(look, with_kwargs=True)
    given = conditions(pipe)
    try:
        first = draw(pipe, given, steps=1, guidance=1.5)
    finally:
        hook.remove()
    context = seen[0]
    assert context.shape[:2] == (2 * FRAMES, FRAMES)
    assert context[:FRAMES].abs().max() == 0, "the null half was given tokens"
    assert all(torch.equal(frame, given.tokens) for frame in context[FRAMES:])
    tokens = given.tokens.clone()
    tokens[3] += 1
    second = draw(pipe, ConditionLatents(given.latents, tokens, given.noise), steps=1, guidance=1.5)
    assert (first[0] - second[0]).abs().max() > 0


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_fast_paths_change_nothing(
    pipe: DiffusionVASPipeline, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One twin for all of them; 3 samples so that a batch is cut unevenly."""
    sampling = pipe.sampling(steps=2, guidance=guidance)
    results = []
    for fast in (PLAIN, Fast(shared_context=True, encode_chunk=3, samples=2), Fast(False, 16, 3)):
        monkeypatch.setattr(pipe, "fast", fast)
        given = pipe.encode_conditions(images(0), images(1), seeded())
        results.append(pipe.denoise(given, [seeded(k) for k in range(3)], sampling))
    assert results[0].shape == (3, FRAMES, 4, h, w)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-3, atol=1e-3)


def test_guidance_acts_inside_its_interval_only(pipe: DiffusionVASPipeline, recorder: Recorder) -> None:
    sampling = Sampling(steps=5, guidance=2.0, interval=(0.05, 20.0))
    pipe.denoise(conditions(pipe), [seeded()], sampling)
    inside = [0.05 <= float(sigma) <= 20 for sigma in edm.karras_sigmas(5)[:-1]]
    assert any(inside) and not all(inside)
    assert [len(call["x"]) for call in recorder.calls] == [2 if i else 1 for i in inside]


def test_reused_estimates_cost_no_evaluation(pipe: DiffusionVASPipeline, recorder: Recorder) -> None:
    steps: list[None] = []
    sampling = Sampling(steps=5, guidance=2.0, evaluated=(0.05, 20.0))
    pipe.denoise(conditions(pipe), [seeded()], sampling, lambda: steps.append(None))
    assert len(recorder.calls) == len(sampling.evaluated_sigmas()) < 5 == len(steps)


def test_an_interval_with_the_real_network(pipe: DiffusionVASPipeline) -> None:
    """The shared context has to follow: with and without a null half in one run."""
    everywhere = Sampling(steps=3, guidance=2.0)
    nowhere = Sampling(steps=3, guidance=2.0, interval=(0.0, 0.0))
    part = Sampling(steps=3, guidance=2.0, interval=(1.0, 1000.0))
    given = conditions(pipe)
    one, none, some = (pipe.denoise(given, [seeded()], s) for s in (everywhere, nowhere, part))
    torch.testing.assert_close(none, pipe.denoise(given, [seeded()], Sampling(steps=3, guidance=1.0)))
    assert not torch.allclose(some, one, atol=1e-3) and not torch.allclose(some, none, atol=1e-3)


def test_attention_is_as_it_was_afterwards(pipe: DiffusionVASPipeline) -> None:
    before = pipe.unet.attn_processors
    draw(pipe, conditions(pipe), steps=1, guidance=1.5)
    assert pipe.unet.attn_processors == before


@pytest.mark.parametrize("name", ["interval", "evaluated"])
def test_faithful_behaviour_knows_no_intervals(pipe: DiffusionVASPipeline, name: str) -> None:
    pipe.behaviour = BEHAVIOURS["faithful"]
    try:
        with pytest.raises(ValueError, match=f"{name}: expected none in faithful behaviour"):
            pipe.denoise(conditions(pipe), [seeded()], Sampling(steps=2, **{name: (1.0, 2.0)}))
    finally:
        pipe.behaviour = BEHAVIOURS["default"]


def test_one_clip_does_not_depend_on_the_one_before(pipe: DiffusionVASPipeline) -> None:
    first = pipe(images(0), images(1), generator=seeded(), steps=2)
    pipe(images(2), None, generator=seeded(9), steps=1)
    assert torch.equal(first, pipe(images(0), images(1), generator=seeded(), steps=2))


def test_steps_are_counted(pipe: DiffusionVASPipeline, recorder: Recorder) -> None:
    ticks: list[int] = []
    pipe.denoise(conditions(pipe), [seeded()], pipe.sampling(steps=4, guidance=1.0), lambda: ticks.append(1))
    assert len(ticks) == len(recorder.calls) == 4
    recorder.calls.clear()
    pipe(images(0), None, generator=seeded())
    assert len(recorder.calls) == pipe.config.defaults["steps"]


def test_sizes_are_multiples_of_what_the_levels_halve(pipe: DiffusionVASPipeline) -> None:
    assert pipe.multiple == 32


A = torch.zeros(FRAMES, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (A[0], None, {}, r"modal_mask: expected \(T, 3, H, W\) with H and W multiples of 32, got \(3, 32, 64\)"),
        (A[:, :1], None, {}, "modal_mask: expected"),
        (A[:0], None, {}, "modal_mask: expected"),
        (A[:, :, :24], None, {}, "modal_mask: expected"),
        (A[:, :, :, :40], None, {}, r"modal_mask: .* got \(5, 3, 32, 40\)"),
        (A, A[:2], {}, r"depth: expected \(5, 3, 32, 64\) like modal_mask, got \(2, 3, 32, 64\)"),
        (A, A, {"steps": 0}, "steps: expected a whole number of at least 1, got 0"),
        (A, A, {"guidance": -0.5}, "guidance: expected a number of 0 or more, got -0.5"),
    ],
)
def test_bad_inputs(
    pipe: DiffusionVASPipeline, a: torch.Tensor, b: torch.Tensor | None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipe(a, b, generator=seeded(), **options)


def test_conditions_of_the_second_stage_have_other_names() -> None:
    with pytest.raises(ValueError, match="amodal_mask: expected .* like modal_rgb"):
        tiny_model().content(A, A[:1], generator=seeded())


def test_unknown_stage(pipe: DiffusionVASPipeline) -> None:
    with pytest.raises(ValueError, match=r"stage: expected one of \['amodal', 'content'\], got 'both'"):
        DiffusionVASPipeline(**pipe.components, stage="both")
