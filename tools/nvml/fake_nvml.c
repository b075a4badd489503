/* A stand-in of the driver's libnvidia-ml.so.1 for tests: two GPUs, readings that are made up.
 *
 *   cc -shared -fPIC -o libfake_nvml.so fake_nvml.c        then DFLOW_NVML=/path/to/libfake_nvml.so
 *
 * Written from NVIDIA's documentation of the interface; nothing of it is copied.
 *
 *   FAKE_NVML_INIT_ERROR=n       nvmlInit answers n
 *   FAKE_NVML_UNSUPPORTED=a,b    these readings answer NOT_SUPPORTED: utilization memory power power_limit temperature
 *                                sm_clock memory_clock ecc throttle name uuid
 *   FAKE_NVML_MODELS=2           the GPUs are of different models
 *   FAKE_NVML_LOST=i             GPU i has fallen off the bus: every reading fails
 *   FAKE_NVML_DENIED=i,j         a device cgroup denies these GPUs: they are counted, but answer NO_PERMISSION
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 2 };
enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { GPU_IS_LOST = 15 };
enum { CLOCK_SM = 1, CLOCK_MEMORY = 2 };

typedef struct { unsigned index; int is_instance; } device;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } utilization;

/* Two GPUs, and a MIG instance of the second. */
static device devices[COUNT + 1] = {{0, 0}, {1, 0}, {1, 1}};
static const char MIG_UUID[] = "MIG-fake-0000-0000-0000-000000000001";
static unsigned calls; /* the utilization changes from call to call */

/* Whether `name` stands in a list with commas. */
static int listed(const char *variable, const char *name) {
    const char *list = getenv(variable);
    size_t length = strlen(name);
    while (list && *list) {
        const char *end = strchr(list, ',');
        size_t word = end ? (size_t)(end - list) : strlen(list);
        if (word == length && strncmp(list, name, length) == 0) return 1;
        list = end ? end + 1 : NULL;
    }
    return 0;
}

static int refused(const device *d, const char *reading) {
    const char *lost = getenv("FAKE_NVML_LOST");
    if (lost && (unsigned)atoi(lost) == d->index) return GPU_IS_LOST;
    /* An instance has its own memory and name only. */
    if (d->is_instance && strcmp(reading, "memory") && strcmp(reading, "name") && strcmp(reading, "uuid"))
        return NOT_SUPPORTED;
    return listed("FAKE_NVML_UNSUPPORTED", reading) ? NOT_SUPPORTED : SUCCESS;
}

static int put(char *out, unsigned length, const char *text) {
    if (strlen(text) + 1 > length) return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

static int figure(const device *d, const char *reading, unsigned *out, unsigned value) {
    int error = refused(d, reading);
    if (error == SUCCESS) *out = value;
    return error;
}

int nvmlInit_v2(void) {
    const char *error = getenv("FAKE_NVML_INIT_ERROR");
    return error ? atoi(error) : SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    return nvmlInit_v2();
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int error) { return error ? "an error of the stand-in" : "success"; }

int nvmlSystemGetDriverVersion(char *out, unsigned length) { return put(out, length, "580.00-fake"); }

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = COUNT;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **out) {
    char text[16];
    if (index >= COUNT) return INVALID_ARGUMENT;
    snprintf(text, sizeof text, "%u", index);
    if (listed("FAKE_NVML_DENIED", text)) return NO_PERMISSION;
    *out = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetUUID(device *d, char *out, unsigned length) {
    char text[64];
    int error = refused(d, "uuid");
    if (error) return error;
    snprintf(text, sizeof text, "GPU-fake%u-0000-0000-0000-000000000000", d->index);
    return put(out, length, d->is_instance ? MIG_UUID : text);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device **out) {
    char text[64];
    for (unsigned i = 0; i <= COUNT; i++) {
        if (nvmlDeviceGetUUID(&devices[i], text, sizeof text) == SUCCESS && strcmp(text, uuid) == 0) {
            *out = &devices[i];
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetName(device *d, char *out, unsigned length) {
    char text[64];
    int error = refused(d, "name");
    if (error) return error;
    snprintf(text, sizeof text, "Fake GPU%s", getenv("FAKE_NVML_MODELS") && d->index ? " Plus" : "");
    return put(out, length, text);
}

int nvmlDeviceGetMemoryInfo_v2(device *d, memory_v2 *out) {
    int error = refused(d, "memory");
    if (error) return error;
    out->total = d->is_instance ? 10ull << 30 : 80ull << 30;
    out->reserved = 1ull << 29;
    out->used = (unsigned long long)(d->index + 1) << 30;
    out->free = out->total - out->reserved - out->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(device *d, utilization *out) {
    int error = refused(d, "utilization");
    if (error) return error;
    out->gpu = (10 * (d->index + 1) + calls++) % 101;
    out->memory = 5;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(device *d, int sensor, unsigned *out) {
    (void)sensor;
    return figure(d, "temperature", out, 40 + d->index);
}

int nvmlDeviceGetPowerUsage(device *d, unsigned *out) { return figure(d, "power", out, 300000 + 1000 * d->index); }

int nvmlDeviceGetEnforcedPowerLimit(device *d, unsigned *out) { return figure(d, "power_limit", out, 700000); }

int nvmlDeviceGetClockInfo(device *d, int clock, unsigned *out) {
    if (clock == CLOCK_SM) return figure(d, "sm_clock", out, 1980);
    if (clock == CLOCK_MEMORY) return figure(d, "memory_clock", out, 2619);
    return INVALID_ARGUMENT;
}

int nvmlDeviceGetTotalEccErrors(device *d, int kind, int counter, unsigned long long *out) {
    int error = refused(d, "ecc");
    (void)counter;
    if (error == SUCCESS) *out = kind == 0 ? 7 : d->index;
    return error;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(device *d, unsigned long long *out) {
    int error = refused(d, "throttle");
    if (error == SUCCESS) *out = d->index ? 0x44 : 0; /* software power cap, hardware thermal slowdown */
    return error;
}
