// Options of Transformers, PEFT and bitsandbytes that people have in their files and that change nothing here.
// Each is said once, with the reason. A value that would change the result is refused instead.

/** Either no value has an effect, or some have none and the others are not offered. */
export type NoEffect = { why: string } | { neutral: readonly unknown[]; hint: string }

const plain = (why: string, ...names: string[]): [string, NoEffect][] => names.map((name) => [name, { why }])

/** Says nothing at these values, which are the library's defaults; anything else is refused. */
const neutral = (name: string, values: readonly unknown[], hint: string): [string, NoEffect] => [
  name,
  { neutral: values, hint },
]

/** By full name: those of a section with its prefix. */
export const noEffect: ReadonlyMap<string, NoEffect> = new Map<string, NoEffect>([
  ...plain('the tokenizer is native', 'use_fast_tokenizer', 'use_fast', 'tokenizers_parallelism'),
  ...plain('there is one device; `plan` takes several, and gives them the blocks in order', 'device_map'),
  ...plain('there is one device', 'max_memory', 'no_cuda', 'use_cpu', 'use_mps_device', 'local_rank'),
  ...plain(
    'there is one process',
    'ddp_backend',
    'ddp_find_unused_parameters',
    'ddp_bucket_cap_mb',
    'ddp_timeout',
  ),
  ...plain(
    'there is one process',
    'ddp_broadcast_buffers',
    'average_tokens_across_devices',
    'nproc_per_node',
  ),
  ...plain(
    'there is one process',
    'fsdp',
    'fsdp_config',
    'fsdp_transformer_layer_cls_to_wrap',
    'accelerator_config',
  ),
  ...plain('attention never sees padding, on whichever side it would be', 'padding_side'),
  ...plain(
    'rows are tokenised ahead of training, on all threads',
    'dataloader_num_workers',
    'dataloader_pin_memory',
  ),
  ...plain('rows are tokenised ahead of training, on all threads', 'dataloader_prefetch_factor'),
  ...plain('rows are tokenised ahead of training, on all threads', 'dataloader_persistent_workers'),
  ...plain(
    'rows are tokenised ahead of training, on all threads',
    'preprocessing_num_workers',
    'lazy_preprocess',
  ),
  ...plain(
    'nothing is computed on padding, so rows of like length need not meet',
    'group_by_length',
    'length_column_name',
  ),
  ...plain('no code of a model repository is ever run', 'trust_remote_code'),
  ...plain(
    'attention is computed in one way',
    'attn_implementation',
    'use_flash_attention_2',
    'use_flash_attn',
    'flash_attn',
  ),
  ...plain('weights keep their stored type until they are used', 'torch_dtype', 'dtype', 'low_cpu_mem_usage'),
  ...plain('there is no key/value cache while training', 'use_cache'),
  ...plain('blocks are computed again in one way', 'gradient_checkpointing_kwargs'),
  ...plain('the results are always deterministic', 'full_determinism'),
  ...plain(
    'there is nothing to compile',
    'torch_compile',
    'torch_compile_backend',
    'torch_compile_mode',
    'jit_mode_eval',
  ),
  ...plain(
    'it belongs to PyTorch',
    'tf32',
    'half_precision_backend',
    'fp16_opt_level',
    'fp16_backend',
    'bf16_full_eval',
  ),
  ...plain(
    'it belongs to PyTorch',
    'fp16_full_eval',
    'torch_empty_cache_steps',
    'use_ipex',
    'optim_target_modules',
  ),
  ...plain('the command says what is done', 'do_train', 'do_eval', 'do_predict', 'overwrite_cache'),
  ...plain('the fields that the template names are used', 'remove_unused_columns', 'label_names'),
  ...plain(
    'the evaluation computes the loss alone',
    'prediction_loss_only',
    'eval_accumulation_steps',
    'past_index',
  ),
  ...plain('the evaluation computes the loss alone', 'include_inputs_for_metrics', 'include_for_metrics'),
  ...plain(
    'the evaluation computes the loss alone',
    'batch_eval_metrics',
    'metric_for_best_model',
    'greater_is_better',
  ),
  ...plain('files are always safetensors', 'save_safetensors', 'safe_serialization'),
  ...plain(
    'it is not needed: tokens are always counted',
    'include_num_input_tokens_seen',
    'include_tokens_per_second',
  ),
  ...plain(
    'the log is what the options say',
    'log_level',
    'log_level_replica',
    'log_on_each_node',
    'logging_nan_inf_filter',
  ),
  ...plain('the plan finds what fits before it starts', 'auto_find_batch_size'),
  ...plain('nothing is sent anywhere', 'run_name', 'project', 'skip_memory_metrics', 'hub_private_repo'),
  neutral('push_to_hub', [false], 'Upload the folder with the tools of the hub.'),
  neutral('label_smoothing_factor', [0], 'Leave it out: the loss is the plain cross-entropy.'),
  neutral('neftune_noise_alpha', [null, 0], 'Leave it out: embeddings get no noise.'),
  neutral('load_best_model_at_end', [false], 'Leave it out, and choose the checkpoint by its eval_loss.'),
  neutral('dataloader_drop_last', [false], 'Leave it out: the last micro-batch is trained on too.'),
  neutral('optim_args', [null], 'Set adam_beta1, adam_beta2 and adam_epsilon.'),
  neutral('lr_scheduler_kwargs', [null], 'Leave it out: the schedules have no further options.'),
  neutral('eval_delay', [0], 'Leave it out.'),
  neutral('save_only_model', [false], 'Leave it out.'),

  ...plain('the adapter is always of a causal language model', 'lora.task_type'),
  ...plain('an adapter in training is in training', 'lora.inference_mode'),
  ...plain(
    'it is written by itself',
    'lora.peft_type',
    'lora.base_model_name_or_path',
    'lora.revision',
    'lora.auto_mapping',
  ),
  ...plain('it is written by itself', 'lora.peft_version', 'lora.megatron_config', 'lora.megatron_core'),
  neutral('lora.fan_in_fan_out', [false], 'Leave it out: weights are stored [out, in].'),
  neutral('lora.init_lora_weights', [true], "Leave it out: A is drawn as PEFT's default, B is zero."),
  neutral('lora.use_dora', [false], 'Leave it out: plain LoRA is what there is.'),
  neutral('lora.lora_bias', [false], 'Leave it out: the adapter has no bias of its own.'),
  neutral(
    'lora.layers_to_transform',
    [null],
    'Name the modules whole in target_modules, as layers.0.q_proj.',
  ),
  neutral('lora.layers_pattern', [null], 'Name the modules whole in target_modules.'),
  neutral('lora.exclude_modules', [null], 'Name the wanted modules in target_modules.'),
  neutral('lora.rank_pattern', [null, {}], 'Leave it out: all modules have the rank r.'),
  neutral('lora.alpha_pattern', [null, {}], 'Leave it out: all modules have the same lora_alpha.'),
  neutral('lora.loftq_config', [null, {}], 'Leave it out.'),
  neutral('lora.trainable_token_indices', [null], 'Train whole embeddings by modules_to_save.'),

  ...plain(
    'products use the unpacked weights, and activations are never quantised',
    'quantization.llm_int8_threshold',
  ),
  ...plain('there is one device', 'quantization.llm_int8_enable_fp32_cpu_offload'),
  neutral('quantization.llm_int8_has_fp16_weight', [false], 'Leave it out: the weights are kept in int8.'),
  ...plain('4-bit codes are stored as bytes', 'quantization.bnb_4bit_quant_storage'),
  ...plain('the options say it', 'quantization.quant_method'),
])
