import torch


def rotary_angles(positions, head_dim, base=10_000.0):
    if head_dim < 2 or head_dim % 2:
        raise ValueError("head_dim must be even")
    return torch.stack([positions * base ** (-2 * i / head_dim) for i in range(head_dim // 2)], dim=1).float()


def apply_rotary(x, positions, base=10_000.0):
    T, K = x.shape[-2:]
    if K % 2 or positions.shape != (T,):
        raise ValueError("wrong sizes")
    speed = base ** (-torch.arange(0, K, 2, dtype=torch.float64, device=x.device) / K)
    angle = positions.double()[:, None] * speed  # (T, K/2)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64, device=x.device)
    matrix = torch.matrix_exp(angle[..., None, None] * turn)  # (T, K/2, 2, 2)
    return torch.einsum("tprc,bhtpc->bhtpr", matrix, x.double().unflatten(-1, (-1, 2))).flatten(-2).to(x.dtype)
