"""Classifier-free guidance with a text branch and an image branch, and the renormalisations of BAGEL.

``v`` is predicted in the full context, ``u`` without the text, ``i`` without the images. Source: ``gen_image`` of the BAGEL
reference. Shape suffixes: B images, L tokens of an image, D numbers per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ipt.common.errors import UserError

Renorm = Literal["global", "channel", "text_channel"]


@dataclass(frozen=True)
class Guidance:
    """Scales (1 = off) and renormalisation of the guided velocity; active at times in (``start``, ``end``].

    Without text guidance there is none at all, as in the reference; an image scale that this would ignore is an error.
    """

    text_scale: float = 4.0
    image_scale: float = 1.5
    start: float = 0.4
    end: float = 1.0
    renorm: Renorm = "global"
    renorm_min: float = 0.0

    def __post_init__(self) -> None:
        if self.renorm not in get_args(Renorm):
            raise UserError(f"unknown renorm '{self.renorm}'; valid: {', '.join(get_args(Renorm))}")
        if self.text_scale <= 1 < self.image_scale:
            raise UserError(
                f"image_scale {self.image_scale} has no effect while text_scale is {self.text_scale} (<= 1); set image_scale=1"
            )

    @property
    def uses_text(self) -> bool:
        return self.text_scale > 1

    @property
    def uses_image(self) -> bool:
        return self.uses_text and self.image_scale > 1

    def active(self, t: float) -> bool:
        """Whether guidance changes the velocity at time t."""
        return self.uses_text and self.start < t <= self.end

    def combine(self, v_BLD: Tensor, without_text_BLD: Tensor, without_images_BLD: Tensor | None) -> Tensor:
        """The guided velocity [B, L, D], float32. ``without_images_BLD`` is needed only if `uses_image`.

        ``global`` takes norms over an image's L x D numbers (the reference: over all images of a batch, which is the same for
        one image), ``channel`` and ``text_channel`` per token.
        """
        v = v_BLD.float()
        u = without_text_BLD.float()
        guided = u + self.text_scale * (v - u)
        if self.renorm == "text_channel":
            return self._image_branch(self._renormalise(guided, v, (-1,)), without_images_BLD)
        guided = self._image_branch(guided, without_images_BLD)
        return self._renormalise(guided, v, (-2, -1) if self.renorm == "global" else (-1,))

    def _image_branch(self, guided: Tensor, without_images: Tensor | None) -> Tensor:
        if not self.uses_image:
            return guided
        if without_images is None:
            raise UserError(f"image_scale {self.image_scale} needs the velocity of the context without images")
        i = without_images.float()
        return i + self.image_scale * (guided - i)

    def _renormalise(self, guided: Tensor, v: Tensor, dims: tuple[int, ...]) -> Tensor:
        norm = torch.linalg.vector_norm
        ratio = norm(v, dim=dims, keepdim=True) / (norm(guided, dim=dims, keepdim=True) + 1e-8)
        return guided * ratio.clamp(self.renorm_min, 1.0)
