// A CUDA driver with one GPU that is not there: memory is the host's, copies are done at once, kernels are taken and skipped.
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

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101 };

static long launches, allocations, modules;
static __thread Handle current;

#define LOG(...)                            \
    do {                                    \
        if (getenv("DRY_CUDA_LOG")) {       \
            fprintf(stderr, "[cuda] ");     \
            fprintf(stderr, __VA_ARGS__);   \
            fputc('\n', stderr);            \
        }                                   \
    } while (0)

__attribute__((destructor)) static void summary(void) {
    if (getenv("DRY_CUDA_SUM")) fprintf(stderr, "[cuda] %ld launches, %ld allocations, %ld kernels\n", launches, allocations, modules);
}

static long count(long *of) { return __sync_add_and_fetch(of, 1); }

static Handle fresh(void) {
    static uintptr_t last = 0x2000;
    return (Handle)__sync_add_and_fetch(&last, 16);
}

// The device: an H100, as far as anybody asks.

Status cuInit(unsigned flags) { return SUCCESS; }
Status cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Status cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Status cuDeviceGet(int *device, int index) { *device = index; return index ? INVALID_DEVICE : SUCCESS; }
Status cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "NVIDIA H100 80GB HBM3"); return SUCCESS; }
Status cuDeviceGetUuid_v2(void *uuid, int device) { memset(uuid, 1, 16); return SUCCESS; }
Status cuDeviceGetPCIBusId(char *id, int size, int device) { snprintf(id, size, "0000:01:00.0"); return SUCCESS; }
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

Status cuDevicePrimaryCtxRetain(Handle *context, int device) { *context = (Handle)0x1000; return SUCCESS; }
Status cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
Status cuCtxSetCurrent(Handle context) { current = context; return SUCCESS; }
Status cuCtxGetCurrent(Handle *context) { *context = current; return SUCCESS; }
Status cuCtxSynchronize(void) { return SUCCESS; }
Status cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return SUCCESS; }
Status cuGetErrorName(Status status, const char **name) { *name = "error of the dry driver"; return SUCCESS; }
Status cuGetErrorString(Status status, const char **text) { *text = "error of the dry driver"; return SUCCESS; }

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

// Kernels.

Status cuModuleLoadData(Handle *module, const void *ptx) {
    long number = count(&modules);
    const char *folder = getenv("DRY_CUDA_PTX");
    *module = fresh();
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
Status cuModuleUnload(Handle module) { return SUCCESS; }
Status cuModuleGetFunction(Handle *function, Handle module, const char *name) { *function = strdup(name); return SUCCESS; }
Status cuFuncSetAttribute(Handle function, int attribute, int value) { return SUCCESS; }
Status cuTensorMapEncodeTiled(void *map, ...) { return SUCCESS; }
Status cuTensorMapEncodeIm2col(void *map, ...) { return SUCCESS; }

Status cuLaunchKernel(Handle function, unsigned x, unsigned y, unsigned z, unsigned threads_x, unsigned threads_y, unsigned threads_z,
                      unsigned shared, Handle stream, void **arguments, void **extra) {
    count(&launches);
    LOG("launch %s, blocks %u %u %u, threads %u %u %u", (char *)function, x, y, z, threads_x, threads_y, threads_z);
    return SUCCESS;
}
Status cuLaunchKernelEx(const void *configuration, Handle function, void **arguments, void **extra) {
    count(&launches);
    LOG("launch %s", (char *)function);
    return SUCCESS;
}
