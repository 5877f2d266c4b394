"""Training of the miniature VAE: pixels to latents of about unit spread, and back."""

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from tests.benchmarks.miniature.train_loop import Report, batches, final_mean, optimiser

_KL_WEIGHT = 1e-4
_SOFT = 0.3


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) bytes as (N, 3, H, W) float32 from -1 to 1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def train_autoencoder(
    vae: AutoencoderKL,
    images: np.ndarray,
    steps: int,
    seed: int,
    report: Report,
    batch: int = 8,
    rate: float = 2e-3,
) -> dict[str, float]:
    """Train in place; afterwards `scaling_factor` in the VAE's config gives latents of unit std."""
    generator = torch.Generator().manual_seed(seed)
    adam, schedule = optimiser(vae.parameters(), steps, rate)
    vae.train().to(memory_format=torch.channels_last)
    absolute, divergence = [], []
    for step, rows in enumerate(batches(len(images), batch, steps, seed), start=1):
        pixels = to_pixels(images[rows])
        posterior = vae.encode(pixels).latent_dist
        restored = vae.decode(posterior.sample(generator=generator)).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        l1 = functional.l1_loss(restored, pixels)
        loss = _distance(restored, pixels) + 0.25 * l1 + _KL_WEIGHT * kl
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        adam.step()
        schedule.step()
        absolute.append(l1.item())
        divergence.append(kl.item())
        report(step, absolute[-1])
    vae.eval().to(memory_format=torch.contiguous_format)
    mean, std = encode_all(vae, images[: min(len(images), 2048)])
    spread = float((mean + std * torch.randn(mean.shape, generator=generator)).std())
    vae.register_to_config(scaling_factor=1.0 / spread)
    return {"vae_l1": final_mean(absolute), "vae_kl": final_mean(divergence)}


def _distance(restored: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Squared error of the pixels, and of patches of 4 x 4, which is where colour is learned.

    Without squares the shapes would be left to the median; without patches edges drown the colour.
    """
    fine = functional.mse_loss(restored, pixels)
    coarse = functional.mse_loss(
        functional.avg_pool2d(restored, 4), functional.avg_pool2d(pixels, 4)
    )
    return fine + 2.0 * coarse


@torch.no_grad()
def open_up(vae: AutoencoderKL) -> None:
    """Start a new autoencoder as nearly a plain reduction of the image, colours included.

    Convolutions outside the residual branches begin close to the identity and the branches close to
    silent, since from the usual start colours are found only after thousands of steps. The latents
    begin with little noise, or the first steps learn that they carry nothing.
    """
    for name, module in vae.named_modules():
        if name.endswith(("conv2", "to_out.0")):
            module.weight.mul_(_SOFT)
        elif isinstance(module, torch.nn.Conv2d) and not name.endswith("conv1"):
            usual = module.weight.clone()
            torch.nn.init.dirac_(module.weight)
            module.weight.add_(usual, alpha=_SOFT)
            module.bias.zero_()
    channels = vae.config.latent_channels
    vae.quant_conv.weight[channels:].zero_()
    vae.quant_conv.bias[channels:].fill_(-6.0)


@torch.no_grad()
def encode_all(
    vae: AutoencoderKL, images: np.ndarray, batch: int = 128
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every image's latents, (N, C, h, w) each, not scaled."""
    means, stds = [], []
    for start in range(0, len(images), batch):
        posterior = vae.encode(to_pixels(images[start : start + batch])).latent_dist
        means.append(posterior.mean)
        stds.append(posterior.std)
    return torch.cat(means), torch.cat(stds)
