// An NVRTC that compiles nothing: what stands for PTX is the source, marked, with the folder of its headers. The driver beside it
// compiles that for the host.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Status;
typedef struct { char *source, *text; } Program;

enum { SUCCESS = 0, OUT_OF_MEMORY = 1, INVALID_INPUT = 3 };

static const char include[] = "--include-path=";

Status nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 0; return SUCCESS; }
const char *nvrtcGetErrorString(Status status) { return "error of the emulated NVRTC"; }

Status nvrtcCreateProgram(Program **program, const char *source, const char *name, int headers, const char *const *contents, const char *const *names) {
    *program = calloc(1, sizeof **program);
    (*program)->source = strdup(source);
    return SUCCESS;
}

Status nvrtcCompileProgram(Program *program, int count, const char *const *options) {
    const char *folder = NULL;
    for (int i = 0; i < count && !folder; i++)
        if (!strncmp(options[i], include, sizeof include - 1)) folder = options[i] + sizeof include - 1;
    if (!folder) return INVALID_INPUT;
    return asprintf(&program->text, "// emulated: %s\n%s", folder, program->source) < 0 ? OUT_OF_MEMORY : SUCCESS;
}

Status nvrtcGetPTXSize(Program *program, size_t *bytes) { *bytes = strlen(program->text) + 1; return SUCCESS; }
Status nvrtcGetPTX(Program *program, char *text) { strcpy(text, program->text); return SUCCESS; }
Status nvrtcGetProgramLogSize(Program *program, size_t *bytes) { *bytes = 1; return SUCCESS; }
Status nvrtcGetProgramLog(Program *program, char *text) { *text = 0; return SUCCESS; }

Status nvrtcDestroyProgram(Program **program) {
    free((*program)->source);
    free((*program)->text);
    free(*program);
    return SUCCESS;
}
