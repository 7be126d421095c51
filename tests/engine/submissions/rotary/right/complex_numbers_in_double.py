import torch


def rotary_angles(positions, head_dim, base=10_000.0):
    if head_dim <= 0 or head_dim % 2 == 1:
        raise ValueError("head_dim has to be a positive even number")
    i = torch.arange(head_dim // 2, dtype=torch.float64, device=positions.device)
    return torch.outer(positions.double(), base ** (-2 * i / head_dim)).float()


def apply_rotary(x, positions, base=10_000.0):
    B, H, T, K = x.shape
    if K % 2:
        raise ValueError("K is odd")
    if tuple(positions.shape) != (T,):
        raise ValueError("one position per token, please")
    i = torch.arange(K // 2, dtype=torch.float64, device=x.device)
    turn = torch.exp(1j * positions.double()[:, None] * base ** (-2 * i / K))
    z = torch.complex(x[..., ::2].double(), x[..., 1::2].double()) * turn
    return torch.view_as_real(z).reshape(B, H, T, K).to(x.dtype)
