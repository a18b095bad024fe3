"""The twelve classifiers as PyTorch modules, written from the description of their public layout.

They exist for checks only: bench/pytorch/check.py compares ctclass with them.
"""

import torch
import torch.nn.functional as F
from torch import nn

RESNETS = {"resnet18_3d": (2, 2, 2, 2), "resnet34_3d": (3, 4, 6, 3)}
DENSENETS = {
    "densenet121_3d": (32, 64, (6, 12, 24, 16)),
    "densenet169_3d": (32, 64, (6, 12, 32, 32)),
    "densenet201_3d": (32, 64, (6, 12, 48, 32)),
    "densenet161_3d": (48, 96, (6, 12, 36, 24)),
    "densenet_small_3d": (16, 32, (4, 8, 12, 8)),
    "densenet_tiny_3d": (12, 24, (3, 6, 9, 6)),
}
VITS = {"vit_tiny_3d": (192, 12, 3), "vit_small_3d": (384, 12, 6), "vit_base_3d": (768, 12, 12), "vit_large_3d": (1024, 24, 16)}


class BasicBlock3D(nn.Module):
    def __init__(self, inside, out, stride):
        super().__init__()
        self.conv1 = nn.Conv3d(inside, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(out)
        self.conv2 = nn.Conv3d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(out)
        self.downsample = None
        if stride != 1 or inside != out:
            self.downsample = nn.Sequential(nn.Conv3d(inside, out, 1, stride, bias=False), nn.BatchNorm3d(out))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet3D(nn.Module):
    def __init__(self, classes, blocks, widths=(64, 128, 256, 512), hidden=256):
        super().__init__()
        self.conv1 = nn.Conv3d(1, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm3d(widths[0])
        inside = widths[0]
        for s, (n, width) in enumerate(zip(blocks, widths)):
            stage = []
            for i in range(n):
                stage.append(BasicBlock3D(inside, width, 2 if s > 0 and i == 0 else 1))
                inside = width
            setattr(self, f"layer{s + 1}", nn.Sequential(*stage))
        self.fc = nn.Sequential(nn.Dropout(0.5), nn.Linear(inside, hidden), nn.ReLU(), nn.Dropout(0.3), nn.Linear(hidden, classes))

    def forward(self, x):
        x = F.max_pool3d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3, 4)))


class DenseLayer(nn.Module):
    def __init__(self, inside, growth, bn_size):
        super().__init__()
        self.norm1 = nn.BatchNorm3d(inside)
        self.conv1 = nn.Conv3d(inside, bn_size * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm3d(bn_size * growth)
        self.conv2 = nn.Conv3d(bn_size * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x):
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, y], 1)


class Transition(nn.Module):
    def __init__(self, inside, out):
        super().__init__()
        self.norm = nn.BatchNorm3d(inside)
        self.conv = nn.Conv3d(inside, out, 1, bias=False)

    def forward(self, x):
        return F.avg_pool3d(self.conv(F.relu(self.norm(x))), 2, 2)


class DenseNet3D(nn.Module):
    def __init__(self, classes, growth, init_features, blocks, bn_size=4, hidden=512):
        super().__init__()
        f = self.features = nn.Sequential()
        f.add_module("conv0", nn.Conv3d(1, init_features, 7, 2, 3, bias=False))
        f.add_module("norm0", nn.BatchNorm3d(init_features))
        f.add_module("relu0", nn.ReLU())
        f.add_module("pool0", nn.MaxPool3d(3, 2, 1))
        c = init_features
        for b, layers in enumerate(blocks):
            block = nn.Sequential()
            for i in range(layers):
                block.add_module(f"denselayer{i + 1}", DenseLayer(c, growth, bn_size))
                c += growth
            f.add_module(f"denseblock{b + 1}", block)
            if b < len(blocks) - 1:
                f.add_module(f"transition{b + 1}", Transition(c, c // 2))
                c //= 2
        f.add_module("norm5", nn.BatchNorm3d(c))
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(c, hidden), nn.ReLU(), nn.Dropout(0.3), nn.Linear(hidden, classes)
        )

    def forward(self, x):
        return self.classifier(F.relu(self.features(x)))


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        n, t, e = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, e // self.heads).permute(2, 0, 3, 1, 4)
        a = (q @ k.transpose(-2, -1) * (e // self.heads) ** -0.5).softmax(-1)
        return self.proj((a @ v).transpose(1, 2).reshape(n, t, e))


class Mlp(nn.Module):
    def __init__(self, dim, inside):
        super().__init__()
        self.fc1 = nn.Linear(dim, inside)
        self.fc2 = nn.Linear(inside, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim, heads, ratio):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, int(dim * ratio))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, dim, patch):
        super().__init__()
        self.proj = nn.Conv3d(1, dim, patch, patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class ViT3D(nn.Module):
    def __init__(self, classes, shape, dim, depth, heads, patch_size=(16, 16, 16), mlp_ratio=4, hidden=256):
        super().__init__()
        tokens = 1
        for s, p in zip(shape, patch_size):
            tokens *= s // p
        self.patch_embed = PatchEmbed(dim, tuple(patch_size))
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, tokens + 1, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, classes))

    def forward(self, x):
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for b in self.blocks:
            x = b(x)
        return self.head(self.norm(x)[:, 0])


def build(name, classes, shape, **options):
    """The module of a name; options replace the variant's numbers."""
    if name in RESNETS:
        return ResNet3D(classes, **{"blocks": RESNETS[name], **options})
    if name in DENSENETS:
        growth, init_features, blocks = DENSENETS[name]
        return DenseNet3D(classes, **{"growth": growth, "init_features": init_features, "blocks": blocks, **options})
    dim, depth, heads = VITS[name]
    return ViT3D(classes, shape, **{"dim": dim, "depth": depth, "heads": heads, **options})


def randomise(module, seed):
    """Weights as after a training: norms and their statistics are no longer 1 and 0."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, (nn.BatchNorm3d, nn.LayerNorm)):
                m.weight.add_(0.1 * torch.randn(m.weight.shape, generator=g))
                m.bias.add_(0.1 * torch.randn(m.bias.shape, generator=g))
            if isinstance(m, nn.BatchNorm3d):
                m.running_mean.add_(0.1 * torch.randn(m.running_mean.shape, generator=g))
                m.running_var.mul_(0.5 + torch.rand(m.running_var.shape, generator=g))
                m.num_batches_tracked.fill_(7)
    return module.eval()


def volumes(n, shape):
    """n input volumes that any language can make: ((7919·i mod 1009) − 504)/504 for element i."""
    count = n * shape[0] * shape[1] * shape[2]
    x = (torch.arange(count, dtype=torch.int64) * 7919 % 1009 - 504).double() / 504
    return x.float().reshape(n, 1, *shape)
