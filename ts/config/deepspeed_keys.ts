// Every key of a DeepSpeed file, and what it is here: read, without effect, or refused. Reads nothing itself.

/** What a key is. */
export type Key =
  /** `deepspeed.ts` reads it. `auto`: Transformers puts an option's value in place of "auto". */
  | { is: 'read'; auto: boolean }
  /** Known, and nothing changes by it. */
  | { is: 'idle'; auto: boolean }
  /** Nothing changes by it at these values; any other would change the result, and is refused. */
  | { is: 'neutral'; values: readonly unknown[] }
  | { is: 'section'; keys: Keys }
export type Keys = Readonly<Record<string, Key>>

const each = (key: Key, names: string): Keys =>
  Object.fromEntries(names.split(/\s+/).map((name) => [name, key]))

const read = (names: string): Keys => each({ is: 'read', auto: false }, names)
const readOrAuto = (names: string): Keys => each({ is: 'read', auto: true }, names)
const idle = (names: string): Keys => each({ is: 'idle', auto: false }, names)
const neutral = (names: string, ...values: readonly unknown[]): Keys => each({ is: 'neutral', values }, names)
const section = (keys: Keys): Key => ({ is: 'section', keys })
/** A section that only tells more about a switch that must be off. */
const off = (names: string): Key => section({ ...neutral('enabled', false), ...idle(names) })
const noted = (names: string): Key => section(idle(names))

const zero: Keys = {
  ...read('stage'),
  offload_optimizer: section({
    ...read('device'),
    ...idle('nvme_path buffer_count pin_memory pipeline pipeline_read pipeline_write fast_init ratio'),
    ...idle('super_offload cpuadam_cores_perc'),
  }),
  offload_param: section({
    ...read('device'),
    ...idle('nvme_path buffer_count buffer_size max_in_cpu pin_memory'),
  }),
  ...each({ is: 'idle', auto: true }, 'reduce_bucket_size stage3_prefetch_bucket_size'),
  ...each({ is: 'idle', auto: true }, 'stage3_param_persistence_threshold'),
  ...idle('contiguous_gradients reduce_scatter allgather_partitions allgather_bucket_size overlap_comm'),
  ...idle('use_multi_rank_bucket_allreduce load_from_fp32_weights elastic_checkpoint sub_group_size'),
  ...idle('cpu_offload_use_pin_memory stage3_max_live_parameters stage3_max_reuse_distance'),
  ...idle('stage3_gather_16bit_weights_on_model_save stage3_gather_fp16_weights_on_model_save'),
  ...idle('stage3_model_persistence_threshold stage3_use_all_reduce_for_fetch_params'),
  ...idle('stage3_module_granularity_threshold stage3_allgather_sequential use_all_reduce_for_fetch_params'),
  ...idle('ignore_unused_parameters legacy_stage1 round_robin_gradients log_trace_cache_warnings'),
  ...idle('zero_hpz_partition_size mics_shard_size mics_hierarchical_params_gather override_module_apply'),
  ...idle('memory_efficient_linear pipeline_loading_checkpoint module_granularity_threshold'),
  ...neutral('zero_quantized_weights zero_quantized_nontrainable_weights zero_quantized_gradients', false),
  ...neutral('zeropp_loco_param', null),
}

const optimizer: Keys = {
  ...read('type'),
  ...idle('legacy_fusion'),
  params: section({
    ...readOrAuto('lr betas eps weight_decay'),
    ...idle('torch_adam fp32_optimizer_states'),
    ...neutral('adam_w_mode bias_correction', true),
    ...neutral('amsgrad', false),
  }),
}

const scheduler: Keys = {
  ...read('type'),
  params: section({
    ...readOrAuto('warmup_min_lr warmup_max_lr warmup_num_steps total_num_steps'),
    ...read('warmup_type warmup_min_ratio cos_min_ratio last_batch_iteration'),
  }),
}

const fp16 =
  'auto_cast loss_scale initial_scale_power loss_scale_window hysteresis consecutive_hysteresis min_loss_scale fp16_master_weights_and_grads'

/** The keys of the top level, and below each section its own. */
export const deepspeedKeys: Keys = {
  ...readOrAuto('train_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps'),
  ...readOrAuto('gradient_clipping'),
  zero_optimization: section(zero),
  optimizer: section(optimizer),
  scheduler: section(scheduler),
  bf16: section({
    ...readOrAuto('enabled'),
    ...idle('immediate_grad_update check_grad_overflow'),
    ...neutral('bf16_master_weights_and_grads bf16_optimizer_states', false),
  }),
  fp16: section({ ...readOrAuto('enabled'), ...idle(fp16) }),
  ...idle('steps_per_print wall_clock_breakdown memory_breakdown dump_state disable_allgather'),
  ...idle('communication_data_type seq_parallel_communication_data_type fp32_allreduce'),
  ...idle('zero_allow_untested_optimizer zero_force_ds_cpu_optimizer prescale_gradients'),
  ...idle('gradient_predivide_factor sparse_gradients dataloader_drop_last graph_harvesting'),
  ...idle('use_data_before_expert_parallelism'),
  amp: off('opt_level loss_scale'),
  torch_autocast: off('dtype lower_precision_safe_modules'),
  progressive_layer_drop: off('theta gamma'),
  eigenvalue: off('verbose max_iter tol stability gas_boundary_resolution layer_name layer_num'),
  elasticity: off(
    'max_train_batch_size micro_batch_sizes min_gpus max_gpus min_time version ignore_non_elastic_batch_info num_gpus_per_node model_parallel_size prefer_larger_batch',
  ),
  curriculum_learning: off('curriculum_type min_difficulty max_difficulty schedule_type schedule_config'),
  data_efficiency: off('seed data_routing data_sampling'),
  sparse_attention: off('mode block different_layout_per_head num_local_blocks num_global_blocks attention'),
  activation_checkpointing: noted(
    'partition_activations cpu_checkpointing contiguous_memory_optimization number_checkpoints synchronize_checkpoint_boundary profile',
  ),
  flops_profiler: noted(
    'enabled profile_step module_depth top_modules detailed output_file recompute_fwd_factor',
  ),
  comms_logger: noted('enabled verbose prof_all prof_ops debug'),
  autotuning: noted('enabled fast results_dir exps_dir overwrite metric start_profile_step end_profile_step'),
  tensorboard: noted('enabled output_path job_name'),
  wandb: noted('enabled group team project'),
  csv_monitor: noted('enabled output_path job_name'),
  comet: noted(
    'enabled samples_log_interval project workspace api_key experiment_name experiment_key online mode',
  ),
  aio: noted('block_size queue_depth intra_op_parallelism thread_count single_submit overlap_events use_gds'),
  checkpoint: noted('tag_validation load_universal use_node_local_storage parallel_write'),
  data_types: noted('grad_accum_dtype'),
  timers: noted('throughput'),
  compile: noted('deepcompile free_activation offload_activation offload_opt_states double_buffer'),
  pipeline: noted('stages partition seed_layers activation_checkpoint_interval'),
  tensor_parallel: noted('autotp_size tp_overlap_comm'),
}
