"""The baselines' networks in miniature: same blocks, few channels, random weights, as folders."""

import json
from copy import deepcopy

import torch
import transformers


def _network(config, network, gain=1.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = network(config).eval()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.normal_(
                    0, gain * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
                )
    return net


def tiny_dino():
    config = transformers.Dinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=70,
        patch_size=14,
    )
    return _network(config, transformers.Dinov2Model)


def tiny_sam():
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(
            hidden_size=32,
            output_channels=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=128,
            patch_size=16,
            window_size=4,
            global_attn_indexes=[1],
            num_pos_feats=16,
            mlp_dim=64,
        ).to_dict(),
        prompt_encoder_config=transformers.SamPromptEncoderConfig(
            hidden_size=32, image_size=128, patch_size=16, mask_input_channels=4
        ).to_dict(),
        mask_decoder_config=transformers.SamMaskDecoderConfig(
            hidden_size=32,
            mlp_dim=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            iou_head_depth=2,
            iou_head_hidden_dim=16,
        ).to_dict(),
    )
    return _network(config, transformers.SamModel)


def tiny_seggpt():
    config = transformers.SegGptConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=(64, 32),
        patch_size=8,
        mlp_dim=64,
        pretrain_image_size=32,
        decoder_hidden_size=8,
        merge_index=1,
        intermediate_hidden_state_indices=(1, 2),
        drop_path_rate=0.0,
    )
    return _network(config, transformers.SegGptForImageSegmentation)


def _tiny_hiera(channels):
    """Return an image encoder for 128 x 128 pixels; EdgeTAM's own needs timm, which tests lack."""
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[128, 128],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 4, 4],
        global_attention_blocks=[3],
    )
    return transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        fpn_hidden_size=channels,
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
    )


def _always_there(net):
    """Whether an object is in the frame is not left to chance."""
    last = net.mask_decoder.pred_obj_score_head.proj_out
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(4)
    return net


# What SAM 2 and EdgeTAM have in common.
_VIDEO_SETTINGS = {
    "prompt_encoder_config": {
        "hidden_size": 128,
        "image_size": 128,
        "patch_size": 16,
        "mask_input_channels": 8,
    },
    "mask_decoder_config": {
        "hidden_size": 128,
        "mlp_dim": 32,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 128,
    },
    "image_size": 128,
    "memory_attention_hidden_size": 128,
    "memory_attention_num_layers": 1,
    "memory_attention_rope_feat_sizes": [8, 8],
    "memory_encoder_hidden_size": 128,
    "memory_encoder_output_channels": 64,
    "mask_downsampler_embed_dim": 128,
    "memory_fuser_embed_dim": 128,
    "memory_fuser_intermediate_dim": 32,
    "memory_fuser_num_layers": 1,
    "num_maskmem": 3,
    "max_object_pointers_in_encoder": 4,
}


def tiny_edgetam():
    config = transformers.EdgeTamVideoConfig(
        **deepcopy(_VIDEO_SETTINGS),
        vision_config=_tiny_hiera(128),
        memory_attention_mlp_hidden_size=32,
        memory_attention_rope_k_sizes=[4, 4],
        perceiver_resampler_num_latents=16,
        perceiver_resampler_num_latents_2d=16,
        perceiver_resampler_mlp_intermediate_size=32,
        perceiver_resampler_num_layers=1,
        # As published, unlike the defaults.
        enable_temporal_pos_encoding_for_object_pointers=False,
        enable_occlusion_spatial_embedding=False,
    )
    return _always_there(_network(config, transformers.EdgeTamVideoModel))


def tiny_sam2():
    config = transformers.Sam2VideoConfig(
        **deepcopy(_VIDEO_SETTINGS),
        vision_config=_tiny_hiera(128),
        memory_attention_feed_forward_hidden_size=32,
    )
    return _always_there(_network(config, transformers.Sam2VideoModel))


def tiny_vitmatte(gain=0.5):
    backbone = transformers.VitDetConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=64,
        pretrain_image_size=32,
        patch_size=16,
        num_channels=4,
        window_size=2,
        window_block_indices=[0],
        residual_block_indices=[1],
        out_features=["stage2"],
        use_relative_position_embeddings=True,
    )
    config = transformers.VitMatteConfig(
        backbone_config=backbone,
        hidden_size=32,
        convstream_hidden_sizes=[48, 96, 192],
        fusion_hidden_sizes=[256, 128, 64, 32],
    )
    return _network(config, transformers.VitMatteForImageMatting, gain=gain)


def save_vitmatte(folder):
    tiny_vitmatte().save_pretrained(folder)
    settings = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
