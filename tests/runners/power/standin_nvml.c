/* Stand-in for NVIDIA's libnvidia-ml.so.1, for tests alone: one GPU that draws 100 W and whose energy counter counts
   them by the real clock. Types and codes as in nvml.h; compiled with -DOLD it has what drivers before 535 call the
   reasons, with -DPOOR it supports nothing, with -DNONE there is no GPU. */
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6 };
typedef struct device *nvmlDevice_t;
typedef struct { unsigned int gpu, memory; } nvmlUtilization_t;
static int started;
static const nvmlDevice_t card = (nvmlDevice_t)0x7fff12345678;      /* more bits than an int holds */

#ifdef POOR
#define CHECK(device, value) return NOT_SUPPORTED
#else
#define CHECK(device, value) \
    if (!started) return UNINITIALIZED; \
    if (device != card || !value) return INVALID_ARGUMENT
#endif

int nvmlInit_v2(void) { started = 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
#ifdef NONE
    return NOT_FOUND;
#endif
    if (!started) return UNINITIALIZED;
    if (index != 0) return INVALID_ARGUMENT;
    *device = card;
    return OK;
}
int nvmlDeviceGetName(nvmlDevice_t d, char *name, unsigned int n) { CHECK(d, name); snprintf(name, n, "Stand-in GPU"); return OK; }
int nvmlDeviceGetUUID(nvmlDevice_t d, char *name, unsigned int n) { CHECK(d, name); snprintf(name, n, "GPU-0"); return OK; }
int nvmlSystemGetDriverVersion(char *text, unsigned int n) { snprintf(text, n, "550.54.15"); return OK; }
int nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t d, unsigned int *mw) { CHECK(d, mw); *mw = 700000; return OK; }
int nvmlDeviceGetPowerUsage(nvmlDevice_t d, unsigned int *mw) { CHECK(d, mw); *mw = 100000; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t d, unsigned long long *mj)
{
    CHECK(d, mj);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *mj = 9000000000ULL + (now.tv_sec * 1000000ULL + now.tv_nsec / 1000) / 10;       /* past 32 bits */
    return OK;
}
int nvmlDeviceGetMaxClockInfo(nvmlDevice_t d, int kind, unsigned int *mhz)
{
    CHECK(d, mhz);
    if (kind != 0 && kind != 2) return INVALID_ARGUMENT;
    *mhz = kind ? 2619 : 1980;
    return OK;
}
int nvmlDeviceGetClockInfo(nvmlDevice_t d, int kind, unsigned int *mhz)
{
    CHECK(d, mhz);
    if (kind != 0 && kind != 2) return INVALID_ARGUMENT;
    *mhz = kind ? 2619 : 1755;
    return OK;
}
int nvmlDeviceGetTemperature(nvmlDevice_t d, int sensor, unsigned int *c)
{
    CHECK(d, c);
    if (sensor) return INVALID_ARGUMENT;
    *c = 47;
    return OK;
}
int nvmlDeviceGetUtilizationRates(nvmlDevice_t d, nvmlUtilization_t *rates) { CHECK(d, rates); rates->gpu = 88; rates->memory = 3; return OK; }
#ifdef OLD
int nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t d, unsigned long long *r) { CHECK(d, r); *r = 0x4; return OK; }
#else
int nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t d, unsigned long long *r) { CHECK(d, r); *r = 0x4; return OK; }
#endif
