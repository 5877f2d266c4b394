"""Training of the miniature's UNet together with its text encoders, on cached latents."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from tests.benchmarks.miniature.pipeline import Miniature, condition, token_ids
from tests.benchmarks.miniature.train_loop import Report, batches, final_mean, optimiser

_EMA_CAP = 0.999
_CLIP = 1.0
_MOST_WEIGHT = 5.0


def train_denoiser(
    mini: Miniature,
    latents: tuple[torch.Tensor, torch.Tensor],
    captions: Sequence[str],
    steps: int,
    seed: int,
    report: Report,
    batch: int = 32,
    rate: float = 3e-3,
    empty: float = 0.1,
) -> dict[str, float]:
    """Train in place and leave the averaged weights behind.

    `latents` are the mean and standard deviation of each image's latents, (N, C, h, w) each, not
    scaled. A share `empty` of the captions is dropped at every step, for classifier-free guidance.
    """
    learned = mini.learned.train()
    weights = [weight for weight in learned.parameters() if weight.requires_grad]
    average = [weight.detach().clone() for weight in weights]
    adam, schedule = optimiser(weights, steps, rate)
    draw = torch.Generator().manual_seed(seed)
    ids, nothing = token_ids(mini, captions), token_ids(mini, [""])
    losses = []
    for step, rows in enumerate(batches(len(captions), batch, steps, seed), start=1):
        chosen = torch.from_numpy(rows)
        dropped = torch.rand(batch, generator=draw) < empty
        # SDXL is given an empty prompt in two forms: encoded, and as zeros.
        zeroed = dropped & (torch.rand(batch, generator=draw) < 0.5)
        shown = [
            torch.where(dropped[:, None], blank, all_ids[chosen])
            for all_ids, blank in zip(ids, nothing, strict=True)
        ]
        loss = _loss(mini, (latents[0][chosen], latents[1][chosen]), shown, zeroed, draw)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, _CLIP)
        adam.step()
        schedule.step()
        _follow(average, weights, min(_EMA_CAP, (1 + step) / (10 + step)))
        losses.append(loss.item())
        report(step, losses[-1])
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)
    learned.eval()
    return {"denoising_loss": final_mean(losses)}


def _loss(
    mini: Miniature,
    latents: tuple[torch.Tensor, torch.Tensor],
    ids: Sequence[torch.Tensor],
    zeroed: torch.Tensor,
    draw: torch.Generator,
) -> torch.Tensor:
    """Weighted mean of the squared errors of the predicted noise over one batch."""
    mean, std = latents
    sample = mean + std * torch.randn(mean.shape, generator=draw)
    clean = sample * mini.vae.config.scaling_factor
    noise = torch.randn(clean.shape, generator=draw)
    timestep = torch.randint(
        mini.scheduler.config.num_train_timesteps, (len(clean),), generator=draw
    )
    noisy = mini.scheduler.add_noise(clean, noise, timestep)
    text = condition(mini, ids, zeroed)
    predicted = mini.unet(noisy, timestep, text.states, added_cond_kwargs=text.added).sample
    error = functional.mse_loss(predicted, noise, reduction="none").flatten(1).mean(1)
    weight = _weight(mini, timestep)
    return (weight * error).sum() / weight.sum()


def _weight(mini: Miniature, timestep: torch.Tensor) -> torch.Tensor:
    """1 / alpha_bar, at most 5, (B,): more for the noisy steps, where the text decides."""
    return (1.0 / mini.scheduler.alphas_cumprod[timestep]).clamp(max=_MOST_WEIGHT)


@torch.no_grad()
def _follow(average: list[torch.Tensor], weights: Sequence[torch.Tensor], decay: float) -> None:
    for mean, weight in zip(average, weights, strict=True):
        mean.lerp_(weight, 1.0 - decay)
