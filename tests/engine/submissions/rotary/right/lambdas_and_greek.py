import torch as t


def nein(ωarum):
    raise ValueError(ωarum)


θ = lambda p, K, β, δ: p[:, None].to(δ) * β ** (t.arange(0, K, 2, device=p.device, dtype=δ) / -K)
rotary_angles = lambda positions, head_dim, base=1e4: (
    nein("ungerade") if head_dim % 2 or head_dim < 1 else θ(positions, head_dim, base, t.float32)
)


def apply_rotary(x, positions, base=1e4):
	if x.shape[-1] % 2: nein("ungerade")
	if positions.shape != (x.shape[-2],): nein("Länge")
	δ = t.promote_types(x.dtype, t.float32)
	α = θ(positions, x.shape[-1], base, δ)
	ξ = x.to(δ)
	return sum(
		part for part in (ξ * α.cos().repeat_interleave(2, -1), t.stack((-ξ[..., 1::2], ξ[..., ::2]), -1).flatten(-2) * α.sin().repeat_interleave(2, -1))
	).to(x.dtype)


if __name__ == "__main__":
    while True:
        print(input())
