#!/bin/sh
# The full fine-tuning of a German BLOOM, with the options of the original run. Start it in this folder.
exec npx lora-train train \
  --model_name_or_path malteos/bloom-6b4-clp-german \
  --data_path ger_alpaca_evol_instruct_70k_e.json \
  --output_dir ./full_finetune \
  --num_train_epochs 2 \
  --model_max_length 2048 \
  --per_device_train_batch_size 2 \
  --per_device_eval_batch_size 1 \
  --gradient_accumulation_steps 8 \
  --evaluation_strategy "no" \
  --save_strategy "steps" \
  --save_steps 400 \
  --save_total_limit 3 \
  --learning_rate 2e-5 \
  --warmup_steps 2 \
  --logging_steps 2 \
  --lr_scheduler_type "cosine" \
  --report_to "tensorboard" \
  --gradient_checkpointing True \
  --deepspeed deepspeed.json \
  --bf16 True \
  "$@"
