# Chains the stages through files. `make help` lists what there is; `make plan` says what would run, and why.
#
# Make decides the order only. Each stage is asked every time (FORCE) and answers "up to date" in milliseconds when
# the key in its manifest equals the key of what it would make: content decides, never time stamps. Whatever can be
# swapped is in the path, so that swapping back costs nothing; models from elsewhere go by name and place of their folders.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Its files are named as they are from here.
$(if $(filter-out $(CURDIR)/Makefile,$(abspath $(lastword $(MAKEFILE_LIST)))),$(error say make -C $(dir $(lastword $(MAKEFILE_LIST))) instead of -f))

# ---- What to run: each names a file in pipelines/<axis>/ ----------------------------------------------------------
CORPUS  ?= sample#  text to pretrain on: pipelines/corpus/
STUDENT ?= modernbert-tiny# shape of the model: pipelines/student/
INIT    ?=#         model to begin with instead of STUDENT, any Hugging Face folder with the tokenizer of CORPUS
TEACHER ?= mini#    who scores or teaches: pipelines/teacher/, or any Hugging Face folder
SCORE   ?= kfold#   how entropy is measured: pipelines/score/
SCORE_DTYPE ?= f32# bf16 multiplies faster, on CPUs with AVX512_BF16 and on GPUs
TRAIN_DTYPE ?= f32# the same for pretraining and fine-tuning
MASK    ?= mixed#   which tokens are masked: pipelines/mask/; mixed takes one half by entropy, the other at random
TRAIN   ?= mlm#     recipe: pipelines/train/
KD      ?= kd#      recipe with distillation: pipelines/train/
FIRST   ?=#         masks that teacher-mask begins on: random, or nothing for none
FIRST_UNTIL ?= 0.25# share of the horizon after which the teacher's take their place
FIRST_MODE ?= after-init# how: all at once (after-init), or in more and more rows until then (anneal)
DISTILL ?= live#    teacher in memory (live), or asked before (cached)
TARGETS ?= top64#   what is kept of it then: pipelines/targets/
GLUE    ?= sample#  fine-tuning: pipelines/glue/
ROUNDS  ?= 3#       rounds of self-masking after the first, random one
ROUND_EPOCHS ?= 1#  epochs of each round
SEED    ?=#         seed of masks, first weights and order of rows, instead of that of their files; a teacher keeps its own
REFERENCE ?=#       entropy artifact of a reference model, for MASK=reducible
RUN     ?= self-mask# which run `glue` and `report` look at: random, teacher-mask, self-mask, kd, self-mask-kd

# ---- Where to run; none of this changes a result's key, if FLAGS does not set an option ----------------------------
DEVICE    ?= cpu#   cpu, wgpu[:n], vulkan[:n], cuda[:n]; several GPUs pretrain together: cuda:0,1
THREADS   ?=#       all cores by default
JOBS      ?=#       fine-tuning runs, or stages of a grid, at once, each a process
FLAGS     ?=#       further flags for every stage, e.g. FLAGS=-q
DATA      ?= data#  where all that is made goes
PIPELINES ?= pipelines# the files that are chosen from
CARGO     ?= cargo

choices := CORPUS STUDENT INIT TEACHER SCORE SCORE_DTYPE TRAIN_DTYPE MASK TRAIN KD FIRST FIRST_UNTIL FIRST_MODE DISTILL TARGETS GLUE ROUNDS ROUND_EPOCHS REFERENCE SEED RUN
others  := DEVICE THREADS JOBS FLAGS DATA PIPELINES MODEL page GRID GOAL PLAN BUILD BIN TUNED PYTHON BENCH BENCH_TEXT BENCH_GLUE \
  GPU GPU_BUILDS BUNDLE GC
origin_of_data := $(origin DATA)
given   := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $(v))),$(v)))
# What would do nothing is a mistake. Variables of the tools that are called here pass.
$(foreach v,$(filter-out $(choices) $(others) CARGO% RUST% RAYON% ENTROMASK% GLIBC% MAKE% CUDA% NVIDIA% VK_% WGPU% LLVM% LD_% XDG_% CC CXX AR \
  TMPDIR PATH HOME SHELL,$(given)),$(error $(v)=$($(v)): there is no such variable, see make help; set that of another tool in the environment))

# Names and paths stand in commands and in targets.
hash   := \#
named  := $(foreach v,$(choices) DATA PIPELINES MODEL DEVICE GRID,$(if $(filter-out undefined file,$(origin $(v))),$(v)))# in the environment, too
quoted := ' " & ; ( ) < > | * ? ` \ $(hash) $$
$(foreach v,$(named),$(foreach c,$(quoted) $(if $(filter DEVICE,$(v)),,:),\
  $(if $(findstring $(c),$(value $(v))),$(error $(v)=$(value $(v)): names and paths without $(c)))))
# make takes them for its own. A checkpoint's folder may be called lr=1e-3.
$(foreach v,$(filter $(named),$(choices) DATA),$(foreach c,% $(if $(filter INIT TEACHER REFERENCE,$(v)),,=),\
  $(if $(findstring $(c),$(value $(v))),$(error $(v)=$(value $(v)): names and paths without $(c)))))

# A comment behind a value leaves blanks at its end.
$(foreach v,$(choices) DEVICE THREADS JOBS DATA,$(eval override $(v) := $(strip $($(v)))))
# Without its first ./ a path with // may be another one.
$(if $(findstring //,$(DATA)),$(error DATA=$(DATA): a path without //))
# make takes ./ off the names of targets.
override DATA := $(patsubst ./%,%,$(patsubst %/,%,$(DATA)))
override REFERENCE := $(patsubst %/,%,$(REFERENCE))

# Each becomes part of paths that make splits at blanks, and that `clean` removes.
$(foreach v,$(choices) DEVICE DATA PIPELINES,$(if $(word 2,$($(v))),$(error $(v)=$($(v)): names and paths without blanks only)))

# Each names a file, which is looked for now and not when hours of work have led to it.
$(foreach v,CORPUS STUDENT SCORE MASK TRAIN KD GLUE TARGETS,$(eval file_of_$(v) := \
  $(PIPELINES)/$(or $(if $(filter KD TRAIN,$(v)),train),$(shell echo $(v) | tr A-Z a-z))/$($(v)).toml))
names_in = $(patsubst $(1)%.toml,%,$(wildcard $(1)*.toml))
$(foreach v,$(filter $(given),CORPUS STUDENT SCORE MASK TRAIN KD GLUE TARGETS),$(if $(wildcard $(file_of_$(v))),,\
  $(error $(v)=$($(v)): there is no $(file_of_$(v)), but $(call names_in,$(dir $(file_of_$(v)))))))

$(if $(DATA),,$(error DATA= names no folder))
# Folders of different models often have the same name.
folder_name = $(subst =,-,$(notdir $(1:%/=%)))-$(shell printf %s '$(abspath $(1))' | sha256sum | cut -c1-8)
ifneq ($(INIT),)
$(if $(filter STUDENT,$(given)),$(error INIT=$(INIT) has a shape: leave STUDENT=$(STUDENT) out))
$(if $(wildcard $(INIT)/config.json),,$(error INIT=$(INIT): no model folder, there is no config.json; `hf download NAME --local-dir FOLDER` makes one))
override STUDENT := $(call folder_name,$(INIT))
endif
$(if $(filter random teacher-mask self-mask kd self-mask-kd,$(RUN)),,\
  $(error RUN=$(RUN): it is random, teacher-mask, self-mask, kd or self-mask-kd))
# $(call policy,names): that of MASK, if it is one of them
policy = $(shell sed -nE 's/^[^\#]*name *= *["\x27]($(1))["\x27].*/\1/p' $(PIPELINES)/mask/$(MASK).toml 2>/dev/null)
reads_entropy := $(call policy,high|low|band|sample|mixed|reducible)
$(if $(filter-out random,$(FIRST)),$(error FIRST=$(FIRST): random, or nothing))
$(if $(REFERENCE),$(if $(wildcard $(REFERENCE)/manifest.json),,$(error REFERENCE=$(REFERENCE): no artifact, there is no manifest.json)),\
  $(if $(call policy,reducible),\
    $(error MASK=$(MASK) subtracts the entropies of a reference model: name their artifact, REFERENCE=$(DATA)/entropy/$(CORPUS)/…)))
$(if $(FIRST),,$(foreach v,$(filter FIRST_UNTIL FIRST_MODE,$(given)),$(error $(v) does nothing without FIRST)))

# $(call matches,regular expression,variable)
matches = $(shell [[ '$($(2))' =~ ^($(1))$$ ]] && echo yes)
# The shell reads what begins with a 0 as octal.
$(foreach v,ROUNDS ROUND_EPOCHS,$(if $(call matches,0|[1-9][0-9]*,$(v)),,\
  $(error $(v)=$($(v)): it must be a whole number, without zeros before it)))
$(if $(filter 0,$(ROUND_EPOCHS)),$(error ROUND_EPOCHS=0: a round has one epoch at least))
# There are rules for each, which take make a while.
$(if $(call matches,.?.?.,ROUNDS),,$(error ROUNDS=$(ROUNDS): 999 at most))
$(if $(call matches,|0|[1-9][0-9]*,SEED),,$(error SEED=$(SEED): it must be a whole number, without zeros before it))
$(if $(call matches,|[1-9][0-9]*,THREADS),,$(error THREADS=$(THREADS): a number above 0, or nothing for all cores))
$(if $(filter after-init anneal,$(FIRST_MODE)),,$(error FIRST_MODE=$(FIRST_MODE): after-init or anneal))
$(if $(call matches,0[.][0-9]*[1-9],FIRST_UNTIL),,\
  $(error FIRST_UNTIL=$(FIRST_UNTIL): a number above 0 and below 1, such as 0.25, without zeros behind it))

comma := ,
# What is asked for are these of the five pipelines.
goals := $(filter-out plan,$(MAKECMDGOALS)) $(if $(filter plan,$(MAKECMDGOALS)),$(GOAL))
runs  := $(strip $(filter random teacher-mask self-mask kd self-mask-kd,$(goals:pretrain-%=%)) \
  $(if $(filter MODEL,$(given)),,$(if $(filter glue report,$(goals)),$(RUN))))
# Who reads them; of random masks nobody scores or selects.
by_entropy := teacher-mask self-mask self-mask-kd
distilled  := kd self-mask-kd
readers_of_SCORE := $(by_entropy)
# What reads no entropies can take the place of random masks.
readers_of_MASK  := $(strip $(by_entropy) $(if $(reads_entropy),,random))
readers_of_TEACHER := teacher-mask $(distilled)
readers_of_FIRST := teacher-mask
readers_of_KD      := $(distilled)
readers_of_DISTILL := $(distilled)
readers_of_TARGETS := $(distilled)
$(foreach v,$(filter $(given),SCORE MASK TEACHER FIRST KD DISTILL TARGETS),$(if $($(v)),$(if $(runs),$(if $(filter $(readers_of_$(v)),$(runs)),,\
  $(error $(v) does nothing for $(runs), only for $(readers_of_$(v))$(if $(filter glue report,$(goals)),$(comma) one of which RUN= names))))))
$(if $(filter MODEL,$(given)),$(if $(or $(runs),$(filter-out glue report,$(or $(goals),help))),,\
  $(foreach v,$(filter $(given),STUDENT INIT SCORE SCORE_DTYPE MASK TRAIN KD FIRST DISTILL TARGETS ROUNDS ROUND_EPOCHS REFERENCE SEED),\
  $(if $($(v)),$(error $(v) does nothing for MODEL=$(MODEL), which is looked at as it is)))))
$(if $(filter 0,$(ROUNDS)),$(if $(filter-out self-mask self-mask-kd,$(or $(runs),none)),,$(foreach v,$(filter $(given),SCORE MASK REFERENCE),\
  $(if $($(v)),$(error $(v) does nothing with ROUNDS=0: the first round is trained on random masks)))))
$(if $(filter live,$(DISTILL)),$(foreach v,$(filter $(given),TARGETS),$(error TARGETS does nothing with a teacher in memory, only with DISTILL=cached)))
$(foreach v,$(filter $(given),GLUE RUN),$(if $(runs),$(if $(filter glue report parity,$(goals)),,\
  $(error $(v) does nothing for $(strip $(goals)), only for glue and report))))
# $(call has_online,recipe): whether it masks by itself while it trains
has_online = $(shell grep -lE '^ *\[online' $(PIPELINES)/train/$(1).toml 2>/dev/null)
$(foreach v,$(if $(filter self-mask,$(runs)),TRAIN) $(if $(filter self-mask-kd,$(runs)),KD),$(if $(filter 0,$(ROUNDS)),,$(if $(call has_online,$($(v))),\
  $(error $(v)=$($(v)) masks by itself while it trains and would never see the masks of rounds: train it by pretrain-random (RUN=random)))))
# $(call temperature,file,key): 2, where it is not set
temperature = $(shell awk -v wanted='$(2)' '{ sub(/$(hash).*/, ""); gsub(/[ \t\r"\047]/, "") } /^\[/ { gsub(/[][]/, ""); here = $$0 "."; next } \
  { key = value = $$0; sub(/=.*/, "", key); sub(/^[^=]*=/, "", value) } here key == wanted { found = value } \
  here key ".temperature" == wanted && sub(/.*temperature=/, "", value) { found = value } \
  END { print found == "" ? 2 : found + 0 }' $(1) 2>/dev/null)
$(if $(filter cached,$(DISTILL)),$(if $(filter kd self-mask-kd,$(runs)),$(foreach wanted,$(call temperature,$(file_of_KD),objective.temperature),\
  $(foreach kept,$(call temperature,$(file_of_TARGETS),temperature),$(if $(filter $(wanted),$(kept)),,\
    $(error $(file_of_TARGETS): temperature $(kept), and $(file_of_KD) distils at $(wanted): what is kept holds for one))))))
# $(call set_in,file,key): as its lines have it, before any section
set_in = $(shell awk -v wanted='$(2)' '/^ *\[/ { exit } { line = $$0; sub(/$(hash).*/, "", line); key = line; sub(/=.*/, "", key); \
  gsub(/[ \t]/, "", key) } key == wanted { sub(/^[^=]*=/, "", line); gsub(/[][ \t\r"\047,]/, " ", line); print line }' $(1) 2>/dev/null)
$(foreach v,$(filter $(given),TRAIN KD),$(if $(call set_in,$(file_of_$(v)),epochs),\
  $(error $(file_of_$(v)): epochs does nothing there: ROUNDS and ROUND_EPOCHS say how many there are, make $(MAKECMDGOALS) ROUND_EPOCHS=…)))
$(if $(filter $(by_entropy),$(runs)),$(foreach measure,$(filter-out entropy surprisal,$(call set_in,$(file_of_MASK),measure)),\
  $(if $(filter $(measure),$(call set_in,$(file_of_SCORE),measures)),,\
  $(error $(file_of_MASK) selects by $(measure), which $(file_of_SCORE) does not ask for: name it there, measures = ["$(measure)"]))))
# It would mask by itself and be guided by TEACHER at once, which is another run.
$(if $(filter self-mask,$(runs)),$(if $(filter $(KD),$(TRAIN)),$(error TRAIN=$(TRAIN) is the recipe of KD: make pretrain-self-mask-kd, or RUN=self-mask-kd)))

CARGO_TARGET_DIR ?=
# One target folder per backend: a CPU build must never replace a GPU build without a word.
BACKEND := $(filter-out cpu,$(firstword $(subst :, ,$(subst $(comma), ,$(DEVICE)))))
$(if $(filter-out wgpu vulkan cuda,$(BACKEND)),$(error DEVICE=$(DEVICE): it is cpu, wgpu, vulkan or cuda))
TARGET  := $(or $(CARGO_TARGET_DIR),target)$(if $(BACKEND),/$(BACKEND))
BIN     ?= $(TARGET)/release
BUILD   ?= build
$(foreach v,CARGO_TARGET_DIR BIN BUNDLE page,$(if $(filter-out undefined,$(origin $(v))),$(if $(word 2,$($(v))),$(error $(v)=$($(v)): paths without blanks only))))
# Fused and tuned GPU kernels; empty for software Vulkan, which cannot run them.
TUNED   ?= yes

export ENTROMASK_GIT ?= $(shell git describe --always --dirty 2>/dev/null || true)

# Let glibc keep large blocks instead of returning them to the system after every step: fresh pages cost a fault each,
# which was 3.7 to 4.5 of 22 CPU seconds of training, and is 0.9 with it.
export GLIBC_TUNABLES ?= glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296

# Set by `make plan`.
PLAN ?=
# What a stage waits for: that the programs are built, and that no later stage refuses what can be looked at now.
READY = $(if $(PLAN),,checked)
# Another make, in another terminal, may need the same.
run = @$(if $(PLAN),,echo "== $(@D)" >&2; )$(BIN)/entromask-$(1) --out $(@D) --wait $(PLAN) $(FLAGS)
threads = $(if $(THREADS),--threads $(THREADS))
on      = --device $(DEVICE) $(threads)
# Scoring computes on one device.
first_device = $(firstword $(subst $(comma), ,$(DEVICE)))
on_one  = --device $(first_device) $(threads)

$(foreach v,SCORE_DTYPE TRAIN_DTYPE,$(if $(filter f32 bf16,$($(v))),,$(error $(v)=$($(v)): it is f32 or bf16)))
score       = $(SCORE)$(if $(filter bf16,$(SCORE_DTYPE)),-bf16)
score_dtype = $(if $(filter bf16,$(SCORE_DTYPE)),--dtype bf16)
# $(call by,recipe): what is made by it is called so
by          = $(1)$(if $(filter bf16,$(TRAIN_DTYPE)),-bf16)
# $(call seeded,recipe): the same for models of the student and what follows from them
seeded      = $(call by,$(1))$(sown)
sown       := $(if $(SEED),-s$(SEED))
seed       := $(if $(SEED),--set seed=$(SEED))
train_dtype = $(if $(filter bf16,$(TRAIN_DTYPE)),--dtype bf16)

# `select` refuses entropies that the policy would not read; without one it is random.
reference := $(if $(REFERENCE),$(if $(call policy,reducible),--reference $(REFERENCE)))
$(if $(filter $(given),REFERENCE),$(if $(REFERENCE),$(if $(reference),,$(error REFERENCE does nothing for MASK=$(MASK), only for a policy of reducible))))
entropy   = $(if $(reads_entropy),--entropy $(1))
$(if $(filter $(by_entropy),$(runs)),$(if $(reads_entropy)$(if $(wildcard $(file_of_MASK)),,unknown),,$(foreach v,$(filter $(given),SCORE $(if $(filter teacher-mask,$(runs)),TEACHER)),\
  $(error $(v) does nothing for MASK=$(MASK), which reads no entropies))))
# $(call selects_from,entropies): what it needs
selects_from = $(if $(reads_entropy),$(1),$(tokens))/manifest.json
mask_name = $(MASK)$(if $(reference),-to-$(subst =,-,$(subst /,-,$(REFERENCE:$(DATA)/entropy/$(CORPUS)/%=%))))

# ---- Tokens ---------------------------------------------------------------------------------------------------------
tokens := $(DATA)/tokens/$(CORPUS)

$(tokens)/manifest.json: FORCE | $(READY)
	$(call run,tokenize) --config $(PIPELINES)/corpus/$(CORPUS).toml $(if $(THREADS),--threads $(THREADS))

# ---- Random masks and what is trained on them: the baseline, the first round, the default teacher ----------------------
# epochs-A-B: the masks of the epochs A, A+1, …, A+B-1
total_epochs := $(shell echo $$((($(ROUNDS) + 1) * $(ROUND_EPOCHS))))
masks        := $(DATA)/masks/$(CORPUS)
models       := $(DATA)/models/$(CORPUS)
dash          = $(word $(2),$(subst -, ,$(1)))

# $(call epochs_of,policy,suffix,seed): masks for which no entropies are read
define epochs_of
$(masks)/$(1)$(2)/epochs-%/manifest.json: $(tokens)/manifest.json FORCE | $(READY)
	$$(call run,select) --config $(PIPELINES)/mask/$(1).toml --tokens $(tokens) $(3) \
	  --set first_epoch=$$(call dash,$$*,1) --set epochs=$$(call dash,$$*,2)
endef
$(eval $(call epochs_of,random,,))
$(if $(SEED),$(eval $(call epochs_of,random,$(sown),$(seed))))
# What `pretrain-random` trains on: a policy that reads no entropies, if MASK is one.
at_random := $(or $(if $(filter MASK,$(named)),$(if $(reads_entropy),,$(MASK))),random)
$(if $(filter-out random,$(at_random)),$(eval $(call epochs_of,$(at_random),$(sown),$(seed))))

# $(call begun,student): whether it begins with INIT, and then the flag that says so
begun = $(if $(INIT),$(filter $(STUDENT),$(1)))
start = $(if $(call begun,$(1)),--init $(INIT))
# $(call train,student,recipe,horizon in epochs,masks), and that with SEED
train_seeded = $(call train,$(1),$(2),$(3),$(4)) $(seed)
train = $(call run,pretrain) --config $(PIPELINES)/train/$(2).toml $(if $(call begun,$(1)),,--student $(PIPELINES)/student/$(1).toml) \
  --set epochs=$(3) --tokens $(tokens) --masks $(4) $(train_dtype) $(on)

# ---- The teacher: `student = "…"` in its file names a model that the pipeline trains itself, `path = "…"` a folder ----
teacher_file    := $(wildcard $(PIPELINES)/teacher/$(TEACHER).toml)
quoted_text      = ("[^"]*"|\x27[^\x27]*\x27)
line_end         = *\t*($(hash).*)?\r?$$
teacher_key      = $(if $(teacher_file),$(shell sed -nE 's/^$(1) *= *("([^"]*)"|\x27([^\x27]*)\x27|([0-9]+)) $(line_end)/\2\3\4/p' $(teacher_file)))
teacher_unknown := $(if $(teacher_file),$(shell grep -vP '^ $(line_end)|^(student|path) *= *$(quoted_text) $(line_end)|^epochs *= *[1-9][0-9]* $(line_end)' \
  $(teacher_file) | head -n 1 || true))
$(if $(teacher_unknown),$(error $(teacher_file): `$(teacher_unknown)`: a teacher has student = "…" and epochs = 1 or more, or path = "…"))
$(if $(call teacher_key,path),$(if $(call teacher_key,student)$(call teacher_key,epochs),\
  $(error $(teacher_file): a model in a folder is not trained here: it has path only, or student and epochs)))
$(if $(teacher_file),$(if $(call teacher_key,path)$(call teacher_key,student),,$(error $(teacher_file): it names neither a student nor a path)))
$(foreach key,student epochs,$(if $(word 2,$(call teacher_key,$(key))),$(error $(teacher_file): $(key) = $(call teacher_key,$(key)): one only)))
$(foreach c,$(quoted) :,$(if $(findstring $(c),$(call teacher_key,path)),$(error $(teacher_file): path = $(call teacher_key,path): paths without $(c))))
$(if $(word 2,$(call teacher_key,path)),$(error $(teacher_file): path = $(call teacher_key,path): paths without blanks only))
$(if $(filter $(given),TEACHER),$(if $(teacher_file)$(wildcard $(TEACHER)/config.json),,\
  $(error TEACHER=$(TEACHER): no folder with a config.json, which `hf download NAME --local-dir FOLDER` makes, and there is no \
    $(PIPELINES)/teacher/$(TEACHER).toml, but $(call names_in,$(PIPELINES)/teacher/))))
teacher_student := $(strip $(call teacher_key,student))
$(if $(teacher_student),$(if $(wildcard $(PIPELINES)/student/$(teacher_student).toml),,$(error $(teacher_file): student = $(teacher_student): \
  there is no $(PIPELINES)/student/$(teacher_student).toml, but $(call names_in,$(PIPELINES)/student/))))
teacher_epochs  := $(or $(strip $(call teacher_key,epochs)),$(total_epochs))
# A recipe for a model that is trained already (INIT) is none for a teacher that begins with nothing.
teacher_recipe  := $(or $(if $(INIT),$(if $(wildcard $(PIPELINES)/train/mlm.toml),mlm)),$(TRAIN))
teacher_name    := $(if $(teacher_file),$(subst =,-,$(TEACHER)),$(call folder_name,$(TEACHER)))$(if $(teacher_student),-$(call by,$(teacher_recipe))-e$(teacher_epochs))
teacher         := $(if $(teacher_student),$(models)/$(teacher_student)-$(call by,$(teacher_recipe))/random-e$(teacher_epochs),$(or $(strip $(call teacher_key,path)),$(TEACHER)))
teacher_ready   := $(if $(teacher_student),$(teacher)/manifest.json,$(teacher)/config.json)

# Models trained on masks for which no entropies are read: …/tiny-mlm/random-e4. The teacher has no SEED.
# $(call random_rule,student,epochs,model,masks,seed,recipe)
define random_rule
$(3)/manifest.json: $(4)/manifest.json FORCE | $(READY)
	$$(call train,$(1),$(6),$(2),$(4)) $(5) $(call start,$(1))
endef
random_run := $(models)/$(STUDENT)-$(call seeded,$(TRAIN))/$(at_random)-e$(total_epochs)
$(eval $(call random_rule,$(STUDENT),$(total_epochs),$(random_run),$(masks)/$(at_random)$(sown)/epochs-0-$(total_epochs),$(seed),$(TRAIN)))
ifneq ($(teacher_student),)
ifneq ($(teacher),$(random_run))
$(eval $(call random_rule,$(teacher_student),$(teacher_epochs),$(teacher),$(masks)/random/epochs-0-$(teacher_epochs),,$(teacher_recipe)))
endif
else
$(teacher)/config.json:
	@echo "$(if $(teacher_file),$(teacher_file): path = ,TEACHER=)$(teacher): no model folder, there is no config.json" >&2; exit 3
endif

# ---- Distillation: from a teacher in memory, or from what it said at the masked positions of $(masks)/X or …/X ----------
ifeq ($(filter live cached,$(DISTILL)),)
$(error DISTILL=$(DISTILL): live or cached)
endif
cached      := $(filter cached,$(DISTILL))
kd_name      = $(teacher_name)$(if $(cached),-$(TARGETS))
targets_of   = $(DATA)/targets/$(CORPUS)/$(teacher_name)-$(TARGETS)/$(1:$(DATA)/masks/$(CORPUS)/%=%)
# $(call guide,masks): what a recipe with distillation needs besides, and its flags
guide_ready  = $(if $(cached),$(call targets_of,$(1))/manifest.json,$(teacher_ready))
guide        = $(if $(cached),--targets $(call targets_of,$(1)),--teacher $(teacher))
define targets_rule
$(call targets_of,$(1))/manifest.json: $(1)/manifest.json $(teacher_ready) FORCE | $(READY)
	@$$(if $$(PLAN),,echo "== $$(@D)" >&2; )$$(BIN)/entromask-score distill --out $$(@D) --wait $$(PLAN) $$(FLAGS) \
	  --config $(PIPELINES)/targets/$(TARGETS).toml --tokens $(tokens) --masks $(1) --model $(teacher) $$(on_one)
endef

# ---- Entropy and masks by a teacher ------------------------------------------------------------------------------------
teacher_entropy := $(DATA)/entropy/$(CORPUS)/$(teacher_name)/$(score)
teacher_masks   := $(masks)/$(teacher_name)-$(score)-$(mask_name)$(sown)/epochs-0-$(total_epochs)
teacher_model   := $(models)/$(STUDENT)-$(call seeded,$(TRAIN))/teacher-$(teacher_name)-$(score)-$(mask_name)-e$(total_epochs)$(if $(FIRST),-$(FIRST_MODE:after-init=after)-$(FIRST)-$(FIRST_UNTIL))
first_masks     := $(if $(FIRST),$(masks)/$(FIRST)$(sown)/epochs-0-$(total_epochs))
kd_masks        := $(masks)/random$(sown)/epochs-0-$(total_epochs)
kd_model        := $(models)/$(STUDENT)-$(call seeded,$(KD))/teacher-$(kd_name)-random-e$(total_epochs)

$(teacher_entropy)/manifest.json: $(tokens)/manifest.json $(teacher_ready) FORCE | $(READY)
	$(call run,score) --config $(PIPELINES)/score/$(SCORE).toml $(score_dtype) --tokens $(tokens) --model $(teacher) $(on_one)

$(teacher_masks)/manifest.json: $(call selects_from,$(teacher_entropy)) FORCE | $(READY)
	$(call run,select) --config $(PIPELINES)/mask/$(MASK).toml --tokens $(tokens) $(call entropy,$(teacher_entropy)) \
	  $(reference) $(seed) --set first_epoch=0 --set epochs=$(total_epochs)

$(teacher_model)/manifest.json: $(teacher_masks)/manifest.json $(if $(FIRST),$(first_masks)/manifest.json) FORCE | $(READY)
	$(call train_seeded,$(STUDENT),$(TRAIN),$(total_epochs),$(teacher_masks)) $(call start,$(STUDENT)) $(if $(FIRST),--init-masks $(first_masks) \
	  --set mask_transfer.mode=$(FIRST_MODE) --set mask_transfer.init_fraction=$(FIRST_UNTIL))

$(kd_model)/manifest.json: $(kd_masks)/manifest.json $(call guide_ready,$(kd_masks)) FORCE | $(READY)
	$(call train_seeded,$(STUDENT),$(KD),$(total_epochs),$(kd_masks)) $(call start,$(STUDENT)) $(call guide,$(kd_masks))

$(if $(cached),$(eval $(call targets_rule,$(kd_masks))))

# ---- Self-masking: train on random masks, then score with that very model, select, train on, … ---------------------------
rounds  := $(shell seq 1 $(ROUNDS))
lengths := r$(ROUNDS)x$(ROUND_EPOCHS)
kd_part  = $(if $(filter $(KD),$(1)),-$(kd_name))
self     = $(STUDENT)-$(call seeded,$(1))/self-$(score)-$(mask_name)-$(lengths)$(kd_part)
self_of  = $(DATA)/$(1)/$(CORPUS)/$(subst /,-,$(call self,$(2)))
# The first round knows neither SCORE nor MASK, and its scores do not know MASK: others share them.
first         = $(STUDENT)-$(call seeded,$(1))/self-$(lengths)$(kd_part)
first_entropy = $(DATA)/entropy/$(CORPUS)/$(subst /,-,$(call first,$(1)))-$(score)/round-1
# $(call self_model,recipe,round), and the entropies that masks of a round are made from
self_model    = $(models)/$(if $(filter 0,$(2)),$(call first,$(1)),$(call self,$(1)))/round-$(2)
self_entropy  = $(if $(filter 1,$(2)),$(call first_entropy,$(1)),$(call self_of,entropy,$(1))/round-$(2))

# The masks of a round, and what a recipe needs besides them.
self_masks   = $(if $(filter 0,$(2)),$(masks)/random$(sown)/epochs-0-$(ROUND_EPOCHS),$(call self_of,masks,$(1))/round-$(2))
self_ready   = $(if $(filter $(KD),$(1)),$(call guide_ready,$(call self_masks,$(1),$(2))))
self_guide   = $(if $(filter $(KD),$(1)),$(call guide,$(call self_masks,$(1),$(2))))

# $(call self_round,recipe,round,round before): what round n is made from
define self_round
$(call self_entropy,$(1),$(2))/manifest.json: $(call self_model,$(1),$(3))/manifest.json FORCE | $(READY)
	$$(call run,score) --config $(PIPELINES)/score/$(SCORE).toml $(score_dtype) --tokens $(tokens) \
	  --model $(call self_model,$(1),$(3)) $$(on_one)

$(call self_of,masks,$(1))/round-$(2)/manifest.json: $(call selects_from,$(call self_entropy,$(1),$(2))) FORCE | $(READY)
	$$(call run,select) --config $(PIPELINES)/mask/$(MASK).toml --tokens $(tokens) \
	  $(call entropy,$(call self_entropy,$(1),$(2))) $(reference) $(seed) \
	  --set first_epoch=$$$$(($(2) * $(ROUND_EPOCHS))) --set epochs=$(ROUND_EPOCHS)

$(call self_model,$(1),$(2))/manifest.json: $(call self_masks,$(1),$(2))/manifest.json $(call self_ready,$(1),$(2)) FORCE | $(READY)
	$$(call train_seeded,$(STUDENT),$(1),$(total_epochs),$(call self_masks,$(1),$(2))) \
	  --continue-from $(call self_model,$(1),$(3)) $(call self_guide,$(1),$(2))

$(if $(cached),$(if $(filter $(KD),$(1)),$(call targets_rule,$(call self_masks,$(1),$(2)))))
endef

# $(call self_rounds,recipe)
define self_rounds
$(call self_model,$(1),0)/manifest.json: $(call self_masks,$(1),0)/manifest.json $(call self_ready,$(1),0) FORCE | $(READY)
	$$(call train_seeded,$(STUDENT),$(1),$(total_epochs),$(call self_masks,$(1),0)) $(call start,$(STUDENT)) $(call self_guide,$(1),0)

$(if $(cached),$(if $(filter $(KD),$(1)),$(if $(filter $(kd_masks),$(call self_masks,$(1),0)),,$(call targets_rule,$(call self_masks,$(1),0)))))

$(foreach n,$(rounds),$(eval $(call self_round,$(1),$(n),$(shell echo $$(($(n) - 1))))))
endef
$(eval $(call self_rounds,$(TRAIN)))
$(if $(filter $(TRAIN),$(KD)),,$(eval $(call self_rounds,$(KD))))

# ---- The pipelines -------------------------------------------------------------------------------------------------------
teacher-mask_run := $(teacher_model)
self-mask_run    := $(call self_model,$(TRAIN),$(ROUNDS))
kd_run           := $(kd_model)
self-mask-kd_run := $(call self_model,$(KD),$(ROUNDS))
MODEL ?= $($(RUN)_run)# a model folder that `glue` and `report` look at instead of that of RUN
# A model that is named is looked at as it is, whatever has become of what it was made from.
named_model      := $(filter-out file,$(origin MODEL))
override MODEL   := $(patsubst %/,%,$(MODEL))

pretrain-self-mask: $(self-mask_run)/manifest.json ## Pretrain on the tokens that the model itself is unsure of
pretrain-random: $(random_run)/manifest.json ## Pretrain on random masks: the baseline
pretrain-teacher-mask: $(teacher-mask_run)/manifest.json ## Pretrain on the tokens that TEACHER is unsure of
pretrain-kd: $(kd_run)/manifest.json ## Pretrain on random masks with distillation from TEACHER
pretrain-self-mask-kd: $(self-mask-kd_run)/manifest.json ## Self-masking with distillation from TEACHER
pretrain-%:
	@echo "no pipeline \`$@\`: see make help" >&2; exit 2

# ---- What came out ---------------------------------------------------------------------------------------------------------
model_ready := $(MODEL)/$(if $(named_model),config.json,manifest.json)
model_name  := $(or $(patsubst $(DATA)/models/%,%,$(filter $(DATA)/models/%,$(MODEL))),external/$(call folder_name,$(MODEL)))
glue        := $(DATA)/glue/$(model_name)/$(call by,$(GLUE))
ifneq ($(and $(named_model),$(if $(teacher_student),yes,$(filter-out $(teacher),$(MODEL)))),)
$(MODEL)/config.json:
	@echo "MODEL=$(MODEL): no model folder, there is no config.json" >&2; exit 3
endif
$(if $(filter report,$(goals)),$(if $(if $(wildcard $(MODEL)/config.json),$(filter-out $(DATA)/models/%,$(MODEL))),$(if $(wildcard $(MODEL)/manifest.json),,\
  $(error MODEL=$(MODEL): a page is about what was made here, and there is no manifest.json: make glue measures any model))))
page        ?= $(DATA)/report/$(subst /,-,$(model_name)).html

glue: $(glue)/manifest.json ## Fine-tune the model of RUN (or MODEL) on the tasks of GLUE and print a table
$(glue)/manifest.json: $(model_ready) FORCE | $(READY)
	$(call run,glue) --config $(PIPELINES)/glue/$(GLUE).toml --model $(MODEL) $(train_dtype) $(on) $(if $(JOBS),--jobs $(JOBS))

# Where the files in pipelines/glue/ look for it, wherever DATA is.
glue_data := data/glue-data
glue-data: $(BUILD) ## Fetch GLUE's official files into data/glue-data and check them (curl, unzip; 376 MB)
	$(PIPELINES)/glue/fetch.sh $(glue_data)
	$(BIN)/entromask-glue data --data $(glue_data)

report: $(glue)/manifest.json ## Write one HTML page about the model of RUN (or MODEL)
	@$(if $(PLAN),true,$(BIN)/entromask-report html --model $(MODEL) --glue $(glue) --out $(page))

ablation: $(BUILD) ## Run the grid GRID (pipelines/grid/): each stage of all its runs once, side by side, then one report
	$(foreach v,$(filter $(choices),$(given)),$(error $(v) does nothing here: the grid says what is run))
	@$(BIN)/entromask-ablation run $(grid) --data $(DATA) --pipelines $(PIPELINES) --bin $(BIN) $(on) \
	  $(if $(JOBS),--jobs $(JOBS)) $(if $(PLAN),--dry-run) $(FLAGS)
GRID ?= sample# what `ablation` runs: pipelines/grid/, or any file
grid  = $(if $(wildcard $(PIPELINES)/grid/$(GRID).toml),$(PIPELINES)/grid/$(GRID).toml,$(or $(wildcard $(GRID)),\
  $(error GRID=$(GRID): there is no $(PIPELINES)/grid/$(GRID).toml, but $(call names_in,$(PIPELINES)/grid/))))

results-page: $(BUILD) ## Write docs/results.html, the page of docs/results.md
	@$(BIN)/entromask-ablation page docs/results.md $(FLAGS)

# Whatever else is asked for would be done.
ifneq ($(filter plan,$(MAKECMDGOALS)),)
$(if $(filter-out plan,$(MAKECMDGOALS)),$(error make $(MAKECMDGOALS) would do more than plan: say make plan GOAL=…, which is pretrain-…, glue, report or ablation))
endif
plan: $(BUILD) ## Say for each stage of GOAL (default pretrain-self-mask) whether it is up to date, or why it would run
	$(if $(filter-out pretrain-% glue report ablation,$(GOAL) $(if $(GOAL),,nothing)),\
	  $(error GOAL=$(GOAL): a plan is of pretrain-…, glue, report or ablation))
	@pending=$$(mktemp); trap 'rm -f "$$pending"' EXIT; \
	  $(MAKE) --no-print-directory $(GOAL) BUILD= PLAN="--dry-run --pending $$pending"
GOAL ?= pretrain-self-mask# what `plan` tells of

checked: $(BUILD)
	$(if $(plannable),@$(MAKE) --no-print-directory plan GOAL="$(plannable)" BUILD= >/dev/null)
plannable = $(filter pretrain-% glue report,$(goals))

# ---- Around it ---------------------------------------------------------------------------------------------------------------
build: ## Build the stage binaries (release)
	@CARGO_TARGET_DIR=$(TARGET) $(CARGO) build --release --locked --quiet --workspace --bins \
	  $(if $(BACKEND),--features entromask-device/$(BACKEND)$(if $(TUNED),$(comma)entromask-device/tuned))

test: ## Build and run all tests
	$(CARGO) test --locked --workspace

# The tests are told where the emulated libraries are, and cargo is not: what it builds with may look for them too.
emulated := $(or $(CARGO_TARGET_DIR),target)/cuda/emulated
emulated_test = CARGO_TARGET_DIR=$(emulated:/emulated=) $(CARGO) test --locked --release --workspace \
  --features entromask-device/nvrtc,entromask-device/tuned --config 'target."cfg(all())".runner = "env $(emulated_environment) $(1)"'
emulated_environment = LD_LIBRARY_PATH=$(abspath $(emulated)) CUDA_PATH=$(abspath tests/emulated_cuda) CUBECL_ENVIRONMENT=emulated ENTROMASK_TEST_DEVICE=cuda
test-emulated-cuda: $(emulated)/libcuda.so $(emulated)/libcublasLt.so.13 $(emulated)/libnvrtc.so ## Test what runs on CUDA without a GPU (tests/emulated_cuda)
	$(call emulated_test,) --lib -- cublas on_the_device
	$(call emulated_test,) --test devices
	$(call emulated_test,ENTROMASK_TEST_DTYPE=bf16) --test devices -- families

$(emulated)/libcuda.so: tests/emulated_cuda/cuda.c
$(emulated)/libcublasLt.so.13: tests/emulated_cuda/cublaslt.c
$(emulated)/libnvrtc.so: tests/emulated_cuda/nvrtc.c
$(emulated)/%:
	mkdir -p $(@D)
	$(or $(CC),cc) -O3 -shared -fPIC -o $@ $<

check: ## What has to be clean before a commit: format, lints, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet

parity: $(model_ready) ## Compare what came out with transformers, pyarrow and DuckDB (PYTHON with tests/requirements.txt)
	$(PYTHON) tests/parity/export_tokens.py --check
	$(PYTHON) tests/parity/tables.py $(DATA)
	$(PYTHON) tests/parity/fill_mask.py $(MODEL)
	$(BIN)/entromask-score logits --tokens $(tokens) --model $(MODEL) --rows 32 --out $(DATA)/report/logits.safetensors
	$(PYTHON) tests/parity/masked_lm.py $(MODEL) $(DATA)/report/logits.safetensors
	$(PYTHON) tests/parity/real_checkpoints.py $(BIN)/entromask-score $(tokens)
	$(PYTHON) tests/parity/students.py $(BIN) $(tokens)
	$(PYTHON) tests/parity/glue.py $(BIN)/entromask-glue $(MODEL) $(wildcard $(glue_data))
	$(PYTHON) tests/parity/readme_snippets.py --data $(DATA)
PYTHON ?= python3

bench: ## Measure, in turns: tokenizing against tokenizers' own encode_batch, kernels against plain burn
	$(CARGO) bench --locked --workspace --bench throughput -- --files '$(BENCH_TEXT)'
	$(CARGO) bench --locked --workspace --bench head_entropy
	RAYON_NUM_THREADS=1 $(CARGO) bench --locked --workspace --bench linear
BENCH_TEXT ?= data/sample/corpus/*.txt.zst

bench-select: ## Measure selection against reading and decoding the columns that it needs, on the same threads
	$(CARGO) bench --locked --workspace --bench select -- $(if $(THREADS),--threads $(THREADS))

bench-score: $(tokens)/manifest.json ## Measure scoring against PyTorch doing the same work, in turns (PYTHON with tests/requirements.txt)
	$(PYTHON) tests/bench/score.py $(BIN)/entromask-score $(tokens) --device $(first_device) $(BENCH)
BENCH ?=

# What a machine without compiler and network needs beside tests/, $(tokens) and the masks; gpu_check.py runs there.
# Ways to build: of CUDA both compilers of kernels, that through LLVM and that through CUDA C++ and NVRTC.
GPU_BUILDS ?= cuda-llvm cuda-nvrtc vulkan
BUNDLE     ?= $(or $(CARGO_TARGET_DIR),target)/bundle
gpu_features = $(if $(filter-out cpu,$(1)),--features entromask-device/$(subst cuda-,,$(1:cuda-llvm=cuda))$(if $(TUNED),$(comma)entromask-device/tuned))

gpu-bundle: $(GPU_BUILDS:%=gpu-bundle-%) ## Collect stripped binaries and device tests of GPU_BUILDS in BUNDLE, for gpu-check elsewhere

gpu-bundle-%: FORCE
	CARGO_TARGET_DIR=$(or $(CARGO_TARGET_DIR),target)/$* $(PYTHON) tests/bench/gpu_bundle.py $(BUNDLE)/$* --cargo $(CARGO) \
	  $(call gpu_features,$*)

# As many epochs of masks as the steps of a turn need on the sample, of which one has 14 batches of 256 rows.
gpu_masks := $(masks)/random/epochs-0-9
gpu-check: $(if $(BUILD),gpu-bundle) $(tokens)/manifest.json $(gpu_masks)/manifest.json ## Check scoring and training of GPU_BUILDS against the CPU and PyTorch, and measure them
	$(PYTHON) tests/bench/gpu_check.py --binaries $(foreach build,$(GPU_BUILDS),$(build)=$(BUNDLE)/$(build)) \
	  --tokens $(tokens) --masks $(gpu_masks) --out $(DATA)/report/gpu.md $(GPU)
GPU ?=

bench-train: $(tokens)/manifest.json $(masks)/random/epochs-0-1/manifest.json ## Measure pretraining against a PyTorch loop, in turns
	$(PYTHON) tests/bench/train.py $(BIN)/entromask-pretrain $(tokens) $(masks)/random/epochs-0-1 --device $(first_device) $(BENCH)

bench-glue: $(BUILD) ## Measure fine-tuning against a PyTorch loop, in turns (PYTHON with tests/requirements.txt)
	$(PYTHON) tests/bench/glue.py $(BIN)/entromask-glue $(if $(THREADS),--threads $(THREADS)) $(BENCH_GLUE)
BENCH_GLUE ?=

doctor: ## Look whether this machine has what a run needs
ifneq ($(BUILD),)
	@for tool in rustc:rustup.rs $(CARGO):rustup.rs cc:"your system's packages (gcc)"; do \
	  command -v "$${tool%%:*}" >/dev/null || { echo "$${tool%%:*} is missing: get it from $${tool#*:}" >&2; exit 1; }; done
	@$(MAKE) --no-print-directory $(BUILD)
endif
	@$(BIN)/entromask-report doctor --data $(DATA)

gc: $(BUILD) ## List files in data/ that no manifest lists; GC=--delete removes them, all but what unfinished runs go on from
	@$(BIN)/entromask-report gc $(DATA) $(GC)
GC ?=# --delete removes them, --unfinished lists what interrupted runs left, too

# There may be somebody's files beside ours. Ours are, a path below DATA each: the folders of artifacts, by a manifest of ours or by the
# lock of one that is not finished; the logs and reports of grids, by their names; the pages about models, by their titles.
kinds := tokens entropy masks targets models glue
is_ours := -name manifest.json -exec grep -qE '"kind": *"(tokens|entropy|masks|targets|model|glue)"' {} \; -exec grep -q '"key"' {} \;
define made
  cd "$(DATA)" &>/dev/null || exit 0; shopt -s nullglob; set -- report/*.html; \
  for kind in $(kinds); do [ ! -d $$kind ] || find $$kind/ -mindepth 2 \( $(is_ours) -o -name .lock -empty \) -printf '%h\n'; done; \
  for kind in $(kinds); do ls -d ablation/*/$$kind-*.log /dev/null; done; \
  for grid in ablation/*/; do name=report/$$(basename $$grid); ls -d $$name[.]{md,html,json} $$name-*.svg /dev/null; done; \
  ls -d report/gpu[.]md report/logits[.]safetensors /dev/null; \
  grep -lE '^<title>.* – entromask</title>$$' "$$@" /dev/null || true
endef
# $(call theirs,folder): files in it that neither its manifest lists nor a stage gives such names
theirs = (cd $(1) && find . -type f ! -path './state/*' ! -name '.*' ! -name '*.parquet' ! -path './*-seed[0-9]*' -printf '%P\n') | \
  grep -vxFf <(printf '%s\n' $(not_theirs); sed -nE 's/.*"file": *"([^"]*)".*/\1/p' $(1)/manifest.json 2>/dev/null) || true
not_theirs := manifest.json config.json model.safetensors tokenizer.json tokenizer_config.json special_tokens_map.json metrics.jsonl speed.jsonl \
  masks.jsonl README.md results.json seconds.json
clean: ## Remove everything that was made in data/ (the samples stay, and all that is somebody's)
	$(foreach v,$(filter $(choices),$(given)),$(error $(v) does nothing here: all that was made in $(DATA) would go))
	$(if $(filter environment,$(origin_of_data)),$(error DATA=$(DATA) comes from the environment: make clean DATA=$(DATA), if it is meant))
	@made=$$($(made)); made=$$(grep -vx /dev/null <<<"$$made" | sort -u || true); \
	  [ -n "$$made" ] || { echo "DATA=$(DATA): nothing in it was made here" >&2; exit $(if $(filter command,$(origin_of_data)),2,0); }; \
	  cd "$(DATA)" >/dev/null; while read -r path; do \
	    if [ -e "$$path/.lock" ] && ! flock --nonblock "$$path/.lock" true; then echo "kept $(DATA)/$$path, which is being written" >&2; continue; fi; \
    theirs=$$($(call theirs,"$$path")); if [ -d "$$path" ] && [ -n "$$theirs" ]; then \
      echo "kept $(DATA)/$$path, which holds files that no stage made: $$(head -n 3 <<<"$$theirs" | paste -sd ' ')" >&2; continue; fi; \
    echo "removed $(DATA)/$$path"; rm -rf "$$path"; rmdir -p --ignore-fail-on-non-empty "$$(dirname "$$path")" 2>/dev/null || true; \
	  done <<<"$$made"

help: ## This list
	@echo "make pretrain-self-mask && make glue && make report     runs on data/sample, on the CPU, in minutes"; echo
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(lastword $(MAKEFILE_LIST)) | $(call columns,22)
	@echo; echo "Variables, with [defaults]; files in $(PIPELINES)/:"
	@sed -nE 's/^([A-Z_]+) *\?= *([^#]*)# *(.*)/\1\t\3\t\2/; T; s/\t[$$].*//; p' $(lastword $(MAKEFILE_LIST)) | $(call columns,13)
# Name and text of each line, the text in a column of its own, words kept whole; a third field is the default.
columns = awk -F'\t' -v left=$(1) -v width=$$(tput cols 2>/dev/null || echo 100) '{ \
  text = $$2 ($$3 == "" ? "" : " [" $$3 "]"); sub(/ +\]$$/, "]", text); count = split(text, words, / +/); line = ""; name = $$1; \
  for (i = 1; i <= count; i++) { \
    if (line != "" && left + 4 + length(line words[i]) > width) { printf "  %-" left "s %s\n", name, line; name = line = "" } \
    line = line (line == "" ? "" : " ") words[i] } \
  printf "  %-" left "s %s\n", name, line }'

FORCE:
.PHONY: FORCE checked build test test-emulated-cuda check parity bench bench-select bench-score bench-train bench-glue gpu-bundle gpu-check doctor gc clean help plan ablation results-page glue glue-data report pretrain-self-mask pretrain-random \
  pretrain-teacher-mask pretrain-kd pretrain-self-mask-kd
