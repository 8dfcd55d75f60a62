// A CUDA driver with GPUs that are not there: memory is the host's, and copies and kernels are done at once.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int Status;
typedef uint64_t Address;
typedef void *Handle;

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_PTX = 218, NOT_SUPPORTED = 801 };

static long launches, allocations, modules;
static __thread Handle current;

#define LOG(...)                            \
    do {                                    \
        if (getenv("EMULATED_CUDA_LOG")) {       \
            fprintf(stderr, "[cuda] ");     \
            fprintf(stderr, __VA_ARGS__);   \
            fputc('\n', stderr);            \
        }                                   \
    } while (0)

__attribute__((destructor)) static void summary(void) {
    if (getenv("EMULATED_CUDA_SUM")) fprintf(stderr, "[cuda] %ld launches, %ld allocations, %ld kernels\n", launches, allocations, modules);
}

static long count(long *of) { return __sync_add_and_fetch(of, 1); }

static Handle fresh(void) {
    static uintptr_t last = 0x2000;
    return (Handle)__sync_add_and_fetch(&last, 16);
}

// The devices: H100s, as far as anybody asks.

Status cuInit(unsigned flags) { return SUCCESS; }
Status cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Status cuDeviceGetCount(int *count) {
    const char *wanted = getenv("EMULATED_CUDA_DEVICES");
    *count = wanted ? atoi(wanted) : 1;
    return SUCCESS;
}
Status cuDeviceGet(int *device, int index) {
    int count;
    cuDeviceGetCount(&count);
    *device = index;
    return index < 0 || index >= count ? INVALID_DEVICE : SUCCESS;
}
Status cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "emulated GPU"); return SUCCESS; }
Status cuDeviceGetUuid_v2(void *uuid, int device) { memset(uuid, 1 + device, 16); return SUCCESS; }
Status cuDeviceGetPCIBusId(char *id, int size, int device) { snprintf(id, size, "0000:%02x:00.0", 1 + device); return SUCCESS; }
Status cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 80ull << 30; return SUCCESS; }
Status cuMemGetInfo_v2(size_t *left, size_t *all) { *left = 70ull << 30; *all = 80ull << 30; return SUCCESS; }

// Numbers of CUdevice_attribute.
Status cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;    // threads of a block; x, y
    case 4: *value = 64; break;                      // z
    case 5: *value = 2147483647; break;              // blocks of a grid: x
    case 6: case 7: *value = 65535; break;           // y, z
    case 8: *value = 49152; break;                   // shared memory of a block
    case 10: *value = 32; break;                     // threads of a warp
    case 12: *value = 65536; break;                  // registers of a block
    case 16: *value = 132; break;                    // multiprocessors
    case 75: *value = 9; break;                      // compute capability
    case 76: *value = 0; break;
    case 97: *value = 232448; break;                 // shared memory of a block that asks for it
    default: *value = 1; LOG("attribute %d", attribute);
    }
    return SUCCESS;
}

Status cuDevicePrimaryCtxRetain(Handle *context, int device) { *context = (Handle)(uintptr_t)(0x1000 + 16 * device); return SUCCESS; }
Status cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
Status cuCtxSetCurrent(Handle context) { current = context; return SUCCESS; }
Status cuCtxGetCurrent(Handle *context) { *context = current; return SUCCESS; }
Status cuCtxSynchronize(void) { return SUCCESS; }
Status cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return SUCCESS; }
Status cuGetErrorName(Status status, const char **name) { *name = "error of the emulated driver"; return SUCCESS; }
Status cuGetErrorString(Status status, const char **text) { *text = "error of the emulated driver"; return SUCCESS; }

// Streams and events: everything is done when it is asked for.

Status cuStreamCreate(Handle *stream, unsigned flags) { *stream = fresh(); return SUCCESS; }
Status cuStreamCreateWithPriority(Handle *stream, unsigned flags, int priority) { *stream = fresh(); return SUCCESS; }
Status cuStreamDestroy_v2(Handle stream) { return SUCCESS; }
Status cuStreamSynchronize(Handle stream) { return SUCCESS; }
Status cuStreamQuery(Handle stream) { return SUCCESS; }
Status cuStreamWaitEvent(Handle stream, Handle event, unsigned flags) { return SUCCESS; }
Status cuEventCreate(Handle *event, unsigned flags) { *event = malloc(sizeof(double)); return *event ? SUCCESS : OUT_OF_MEMORY; }
Status cuEventDestroy_v2(Handle event) { free(event); return SUCCESS; }
Status cuEventSynchronize(Handle event) { return SUCCESS; }
Status cuEventQuery(Handle event) { return SUCCESS; }

Status cuEventRecord(Handle event, Handle stream) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *(double *)event = now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
    return SUCCESS;
}

// Never 0, so that choices between kernels have something to compare.
Status cuEventElapsedTime_v2(float *milliseconds, Handle start, Handle end) {
    *milliseconds = *(double *)end - *(double *)start + 0.001;
    return SUCCESS;
}
Status cuEventElapsedTime(float *milliseconds, Handle start, Handle end) { return cuEventElapsedTime_v2(milliseconds, start, end); }

// Memory.

static Status allocate(void **to, size_t bytes) { return posix_memalign(to, 4096, bytes ? bytes : 1) ? OUT_OF_MEMORY : SUCCESS; }

Status cuMemAlloc_v2(Address *address, size_t bytes) {
    void *memory = NULL;
    Status status = allocate(&memory, bytes);
    *address = (Address)memory;
    if (!status) memset(memory, 0xff, bytes);   // not a number, as f32 and as bf16: what is read before it is written is seen
    count(&allocations);
    LOG("allocate %zu", bytes);
    return status;
}
Status cuMemAllocAsync(Address *address, size_t bytes, Handle stream) { return cuMemAlloc_v2(address, bytes); }
Status cuMemFree_v2(Address address) { free((void *)address); return SUCCESS; }
Status cuMemFreeAsync(Address address, Handle stream) { return cuMemFree_v2(address); }
Status cuMemAllocHost_v2(void **memory, size_t bytes) { return allocate(memory, bytes); }
Status cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) { return allocate(memory, bytes); }
Status cuMemFreeHost(void *memory) { free(memory); return SUCCESS; }

static Status copy(void *to, const void *from, size_t bytes, const char *where) {
    LOG("copy %s %zu", where, bytes);
    memcpy(to, from, bytes);
    return SUCCESS;
}
Status cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, Handle stream) { return copy((void *)to, from, bytes, "in"); }
Status cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, Handle stream) { return copy(to, (void *)from, bytes, "out"); }
Status cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Handle stream) { return copy((void *)to, (void *)from, bytes, "within"); }

// CUDA_MEMCPY2D, whose memory types are 1 for the host and 2 for the device.
struct copy2d {
    size_t from_x, from_y;
    int from_type;
    const void *from_host;
    Address from_device;
    Handle from_array;
    size_t from_pitch;
    size_t to_x, to_y;
    int to_type;
    void *to_host;
    Address to_device;
    Handle to_array;
    size_t to_pitch;
    size_t width, height;
};

Status cuMemcpy2DAsync_v2(const struct copy2d *copy, Handle stream) {
    const char *from = copy->from_type == 1 ? copy->from_host : (const char *)copy->from_device;
    char *to = copy->to_type == 1 ? copy->to_host : (char *)copy->to_device;
    LOG("copy %zu rows of %zu, %zu to %zu apart", copy->height, copy->width, copy->from_pitch, copy->to_pitch);
    for (size_t y = 0; y < copy->height; y++) {
        memcpy(to + (copy->to_y + y) * copy->to_pitch + copy->to_x,
               from + (copy->from_y + y) * copy->from_pitch + copy->from_x, copy->width);
    }
    return SUCCESS;
}

// Kernels: the sources that the NVRTC beside this driver marks are compiled for the host and run, all others are skipped.

static const char mark[] = "// emulated: ";

typedef struct { unsigned grid[3], block[3], shared; } Launch;
typedef void Run(const Launch *, void **arguments);
typedef struct { char *name; Run *run; } Function;

static pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER;

Status cuModuleLoadData(Handle *module, const void *ptx) {
    long number = count(&modules);
    const char *folder = getenv("EMULATED_CUDA_PTX");
    *module = strdup(ptx);
    if (folder) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%d-%05ld.ptx", folder, (int)getpid(), number);
        FILE *file = fopen(path, "w");
        if (file) {
            fputs(ptx, file);
            fclose(file);
        }
    }
    return SUCCESS;
}
Status cuModuleUnload(Handle module) { free(module); return SUCCESS; }

// What cannot be said in C++: shared memory of no size, for which the emulator has room, and an addition and a product in PTX.
static const char room[] = "extern __shared__ ", addition[] = "asm volatile(\"atom.relaxed.add.f32 ";
static const char product[] = "asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 ";

static const char *write_room(FILE *to, const char *text) {
    const char *name = strstr(text, " char ") + 6, *end = strstr(name, "[]");
    fprintf(to, "char *const %.*s = emulated::shared", (int)(end - name), name);
    return end + 2;
}

static const char *write_addition(FILE *to, const char *text) {
    char address[64] = "", value[64] = "";
    sscanf(strstr(text, "\"l\"("), "\"l\"(%63[^)]), \"f\"(%63[^)])", address, value);
    fprintf(to, "result = atomicAdd((float *)%s, (float)%s);", address, value);
    return strchr(text, '\n');
}

// Its operands are the parts of three vectors, of four, two and four registers.
static const char *write_product(FILE *to, const char *text) {
    char left[64] = "", right[64] = "", sums[64] = "";
    const char *at = strstr(text, "\"r\"(");
    sscanf(at, "\"r\"(%63[^.]", left);
    for (int i = 0; i < 4; i++) at = strstr(at + 1, "\"r\"(");
    sscanf(at, "\"r\"(%63[^.]", right);
    sscanf(strstr(at, "\"f\"("), "\"f\"(%63[^.]", sums);
    fprintf(to, "result = emulated::product(%s, %s, %s);", left, right, sums);
    return strchr(text, '\n');
}

static void write_source(FILE *to, const char *text, const char *kernel) {
    int waits = strstr(text, "__sync") || strstr(text, "_sync(") || strstr(text, product);
    while (*text) {
        if (!strncmp(text, room, sizeof room - 1)) text = write_room(to, text);
        else if (!strncmp(text, addition, sizeof addition - 1)) text = write_addition(to, text);
        else if (!strncmp(text, product, sizeof product - 1)) text = write_product(to, text);
        else fputc(*text++, to);
    }
    fprintf(to, "\nEMULATED_LAUNCH(%s, %d)\n", kernel, waits);
}

static Run *compile(const char *text, const char *kernel) {
    char folder[] = "/tmp/emulated-cuda-XXXXXX", source[64], library[64], command[8192];
    const char *headers = text + sizeof mark - 1, *compiler = getenv("CXX");
    int length = strcspn(headers, "\n");
    if (!mkdtemp(folder)) return NULL;
    snprintf(source, sizeof source, "%s/kernel.cpp", folder);
    snprintf(library, sizeof library, "%s/kernel.so", folder);
    FILE *file = fopen(source, "w");
    if (!file) return NULL;
    write_source(file, headers + length, kernel);
    fclose(file);
    snprintf(command, sizeof command,
             "%s -std=c++17 -O1 -fno-strict-aliasing -fpermissive -w -U_FORTIFY_SOURCE -shared -fPIC -I'%.*s' -include device.hpp -o %s %s",
             compiler ? compiler : "c++", length, headers, library, source);
    if (system(command)) {
        fprintf(stderr, "[cuda] %s cannot be compiled: %s\n", kernel, source);
        return NULL;
    }
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) fprintf(stderr, "[cuda] %s\n", dlerror());
    if (!getenv("EMULATED_CUDA_KEEP")) unlink(source), unlink(library), rmdir(folder);
    return handle ? (Run *)dlsym(handle, "emulated_launch") : NULL;
}

Status cuModuleGetFunction(Handle *function, Handle module, const char *name) {
    int is_source = !strncmp(module, mark, sizeof mark - 1);
    Function *found = malloc(sizeof *found);
    *found = (Function){.name = strdup(name), .run = is_source ? compile(module, name) : NULL};
    *function = found;
    return is_source && !found->run ? INVALID_PTX : SUCCESS;
}
Status cuFuncSetAttribute(Handle function, int attribute, int value) { return SUCCESS; }
Status cuTensorMapEncodeTiled(void *map, ...) { return SUCCESS; }
Status cuTensorMapEncodeIm2col(void *map, ...) { return SUCCESS; }

Status cuLaunchKernel(Handle function, unsigned x, unsigned y, unsigned z, unsigned threads_x, unsigned threads_y, unsigned threads_z,
                      unsigned shared, Handle stream, void **arguments, void **extra) {
    const Function *kernel = function;
    Launch launch = {{x, y, z}, {threads_x, threads_y, threads_z}, shared};
    count(&launches);
    LOG("launch %s, blocks %u %u %u, threads %u %u %u", kernel->name, x, y, z, threads_x, threads_y, threads_z);
    if (!kernel->run || getenv("EMULATED_CUDA_SKIP")) return SUCCESS;
    pthread_mutex_lock(&running);
    kernel->run(&launch, arguments);
    pthread_mutex_unlock(&running);
    return SUCCESS;
}

// Only kernels of clusters are launched so, which are none of those that are run.
Status cuLaunchKernelEx(const void *configuration, Handle function, void **arguments, void **extra) {
    count(&launches);
    LOG("launch %s", ((Function *)function)->name);
    return ((Function *)function)->run ? NOT_SUPPORTED : SUCCESS;
}
