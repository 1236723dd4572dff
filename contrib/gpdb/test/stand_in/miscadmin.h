extern struct Port *MyProcPort;

extern volatile bool InterruptPending;
extern volatile bool QueryCancelPending;
extern volatile bool ProcDiePending;
extern volatile int InterruptHoldoffCount;

#define HOLD_INTERRUPTS() (InterruptHoldoffCount++)
#define RESUME_INTERRUPTS() (InterruptHoldoffCount--)
#define CHECK_FOR_INTERRUPTS() \
	do { \
		if (InterruptPending) \
			ProcessInterrupts(); \
	} while (0)

extern void ProcessInterrupts(void);
extern bool IsNormalProcessingMode(void);
