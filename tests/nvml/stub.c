/* A stand-in for NVIDIA's management library, so that the tests go the whole way that a worker goes on a machine with a
 * GPU. What it answers stands in the text file that FRAMEWAKE_STUB_NVML names, read anew with each call; a line each:
 *
 *   init CODE                 what nvmlInit answers; 0 is well
 *   hang CALL                 this call does not come back while the line is there
 *   fail CALL CODE            what this call answers
 *   gpu N WHAT VALUE          a property of GPU number N: uuid, name, and the numbers below
 *   lost N                    GPU number N has fallen off the bus
 *   xid N NUMBER              one event; each such line is told once
 *
 * Only what the worker calls is here. Declarations are our own, after NVIDIA's documentation of the interface. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10, GPU_IS_LOST = 15 };

typedef struct { int number; } Gpu;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory;
typedef struct { Gpu *gpu; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;

#define GPUS_MAX 16
static Gpu gpus[GPUS_MAX];
static int xids_seen;
static unsigned listened;

static void pause_ms(unsigned ms) {
    struct timespec wait = { ms / 1000, (ms % 1000) * 1000000L };
    nanosleep(&wait, NULL);
}

/* Calls `take` with each line, until it says that it is enough. */
static void lines(int (*take)(const char *line, void *with), void *with) {
    const char *path = getenv("FRAMEWAKE_STUB_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256];
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (take(line, with)) break;
    }
    fclose(file);
}

struct Asked { const char *call; int code, hangs; };

static int is_asked(const char *line, void *with) {
    struct Asked *asked = with;
    char call[64];
    int code;
    if (sscanf(line, "fail %63s %d", call, &code) == 2 && !strcmp(call, asked->call)) asked->code = code;
    if (sscanf(line, "hang %63s", call) == 1 && !strcmp(call, asked->call)) asked->hangs = 1;
    if (sscanf(line, "init %d", &code) == 1 && !strcmp("nvmlInit_v2", asked->call)) asked->code = code;
    return 0;
}

/* What the file says of a call as a whole. */
static int answer(const char *call) {
    for (;;) {
        struct Asked asked = { call, SUCCESS, 0 };
        lines(is_asked, &asked);
        if (!asked.hangs) return asked.code;
        pause_ms(20);
    }
}

struct Property { int number; const char *what; char *value; int found, lost; };

static int is_property(const char *line, void *with) {
    struct Property *property = with;
    int number, at = 0;
    char what[64];
    if (sscanf(line, "lost %d", &number) == 1 && number == property->number) property->lost = 1;
    if (sscanf(line, "gpu %d %63s %n", &number, what, &at) == 2 && at && number == property->number
        && !strcmp(what, property->what)) {
        snprintf(property->value, 128, "%s", line + at);
        property->found = 1;
    }
    return 0;
}

static int text(const char *call, Gpu *gpu, const char *what, char value[128]) {
    struct Property property = { gpu->number, what, value, 0, 0 };
    int code = answer(call);
    if (code) return code;
    lines(is_property, &property);
    return property.lost ? GPU_IS_LOST : property.found ? SUCCESS : NOT_SUPPORTED;
}

static int number(const char *call, Gpu *gpu, const char *what, unsigned long long *value) {
    char said[128];
    int code = text(call, gpu, what, said);
    if (code == SUCCESS) *value = strtoull(said, NULL, 10);
    return code;
}

static int small(const char *call, Gpu *gpu, const char *what, unsigned *value) {
    unsigned long long large = 0;
    int code = number(call, gpu, what, &large);
    if (code == SUCCESS) *value = (unsigned)large;
    return code;
}

static int copy(const char *call, Gpu *gpu, const char *what, char *into, unsigned length) {
    char said[128];
    int code = text(call, gpu, what, said);
    if (code == SUCCESS) snprintf(into, length, "%s", said);
    return code;
}

static int most(const char *line, void *with) {
    int number, *count = with;
    if (sscanf(line, "gpu %d uuid", &number) == 1 && strstr(line, " uuid ") && number >= *count && number < GPUS_MAX)
        *count = number + 1;
    return 0;
}

static int count(void) {
    int count = 0;
    lines(most, &count);
    return count;
}

static Gpu *gpu(int number) {
    gpus[number].number = number;
    return &gpus[number];
}

int nvmlInit_v2(void) { return answer("nvmlInit_v2"); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code ? "an error of the stub" : "well"; }

int nvmlSystemGetDriverVersion(char *into, unsigned length) {
    snprintf(into, length, "570.86.15");
    return answer("nvmlSystemGetDriverVersion");
}

int nvmlDeviceGetCount_v2(unsigned *found) {
    *found = (unsigned)count();
    return answer("nvmlDeviceGetCount_v2");
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **found) {
    char uuid[128];
    if ((int)index >= count()) return INVALID_ARGUMENT;
    *found = gpu((int)index);
    int code = text("nvmlDeviceGetHandleByIndex_v2", *found, "uuid", uuid);
    return code == NOT_SUPPORTED ? NOT_FOUND : code;
}

int nvmlDeviceGetHandleByUUID(const char *wanted, Gpu **found) {
    char uuid[128];
    int all = count(), code = answer("nvmlDeviceGetHandleByUUID");
    if (code) return code;
    for (int number = 0; number < all; number++) {
        code = text("nvmlDeviceGetUUID", gpu(number), "uuid", uuid);
        if ((code == SUCCESS || code == GPU_IS_LOST) && !strcmp(uuid, wanted)) {
            *found = gpu(number);
            return code;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(Gpu *gpu, char *into, unsigned length) { return copy("nvmlDeviceGetUUID", gpu, "uuid", into, length); }
int nvmlDeviceGetName(Gpu *gpu, char *into, unsigned length) { return copy("nvmlDeviceGetName", gpu, "name", into, length); }

int nvmlDeviceGetIndex(Gpu *gpu, unsigned *index) {
    *index = (unsigned)gpu->number;
    return answer("nvmlDeviceGetIndex");
}

int nvmlDeviceGetMemoryInfo_v2(Gpu *gpu, Memory *memory) {
    int code = number("nvmlDeviceGetMemoryInfo_v2", gpu, "memory_total", &memory->total);
    return code ? code : number("nvmlDeviceGetMemoryInfo_v2", gpu, "memory_used", &memory->used);
}

int nvmlDeviceGetUtilizationRates(Gpu *gpu, Utilization *rates) {
    rates->memory = 0;
    return small("nvmlDeviceGetUtilizationRates", gpu, "busy", &rates->gpu);
}

int nvmlDeviceGetEncoderUtilization(Gpu *gpu, unsigned *share, unsigned *period) {
    *period = 166000;
    return small("nvmlDeviceGetEncoderUtilization", gpu, "encoder", share);
}

int nvmlDeviceGetPowerUsage(Gpu *gpu, unsigned *value) { return small("nvmlDeviceGetPowerUsage", gpu, "power", value); }

int nvmlDeviceGetTotalEnergyConsumption(Gpu *gpu, unsigned long long *value) {
    return number("nvmlDeviceGetTotalEnergyConsumption", gpu, "energy", value);
}

int nvmlDeviceGetTemperature(Gpu *gpu, int sensor, unsigned *value) {
    (void)sensor;
    return small("nvmlDeviceGetTemperature", gpu, "temperature", value);
}

int nvmlDeviceGetClockInfo(Gpu *gpu, int kind, unsigned *value) {
    return small("nvmlDeviceGetClockInfo", gpu, kind == 2 ? "memory_clock" : "clock", value);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(Gpu *gpu, unsigned long long *value) {
    return number("nvmlDeviceGetCurrentClocksThrottleReasons", gpu, "throttle", value);
}

int nvmlDeviceGetTotalEccErrors(Gpu *gpu, int kind, int counter, unsigned long long *value) {
    (void)counter;
    return number("nvmlDeviceGetTotalEccErrors", gpu, kind == 1 ? "ecc_uncorrected" : "ecc_corrected", value);
}

int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *gpu, unsigned *found, void *into) {
    (void)into;
    int code = small("nvmlDeviceGetComputeRunningProcesses_v3", gpu, "processes", found);
    return code == SUCCESS && *found > 0 ? INSUFFICIENT_SIZE : code;
}

int nvmlEventSetCreate(void **set) {
    *set = &xids_seen;
    listened = 0;
    return answer("nvmlEventSetCreate");
}

int nvmlEventSetFree(void *set) {
    (void)set;
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(Gpu *gpu, unsigned long long kinds, void *set) {
    (void)kinds, (void)set;
    listened |= 1u << gpu->number;
    return answer("nvmlDeviceRegisterEvents");
}

struct Next { int skip, gpu, xid; };

static int is_next(const char *line, void *with) {
    struct Next *next = with;
    return sscanf(line, "xid %d %d", &next->gpu, &next->xid) == 2 && next->skip-- == 0;
}

int nvmlEventSetWait_v2(void *set, Event *event, unsigned timeout_ms) {
    (void)set;
    for (unsigned waited = 0;; waited += 5) {
        struct Next next = { xids_seen, -1, 0 };
        int code = answer("nvmlEventSetWait_v2");
        if (code) return code;
        lines(is_next, &next);
        if (next.skip < 0 && next.gpu >= 0 && next.gpu < GPUS_MAX) {
            xids_seen++;
            if (!(listened & 1u << next.gpu)) continue;
            *event = (Event){ gpu(next.gpu), 8, (unsigned long long)next.xid, 0, 0 };
            return SUCCESS;
        }
        if (waited >= timeout_ms) return TIMEOUT;
        pause_ms(5);
    }
}
